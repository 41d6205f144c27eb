"""Record values and cotangents inside any function, without an edit of the function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.loss_forms import bind_given
from jaxopt_tut.losses import require_loss
from jaxopt_tut.splitting import open_model
from jaxopt_tut.taps.interpreter import evaluate
from jaxopt_tut.taps.program import trace_program
from jaxopt_tut.taps.selection import Select, select_sites
from jaxopt_tut.taps.tape import Tape
from jaxopt_tut.taps.tracing import first_by_position, take_parameters


def record(fun: Callable, select: Select = "layers") -> Callable[..., tuple[Any, Tape]]:
    r"""Return the values inside a function along with its result.

    $$\mathrm{record}(f, S)(x) = \bigl(f(x),\; (v_i)_{i \in S}\bigr)$$

    with the sites $v_i$ that `sites` lists. Use it to look at layers of a model that does not
    return them. It costs what the function costs, and the memory of the values: they are results
    now. It can be compiled, differentiated (through the tape too) and mapped like the function.
    Outside `jit` the function is run once more by itself, so that its result has the same bits as
    without the tape; compiled, it is the same to rounding, as XLA fuses differently around results.

    Inside a `scan` the values of all steps are stacked, in a `while_loop` they are the last
    step's, and in a branch that was not taken they are NaN. Values inside a function with a
    derivative rule of its own are computed beside it.

    Args:
      fun: Any function of pytrees; model parameters first.
      select: `"layers"` (pre-activations, activations, normalisation outputs), `"*"` (all), a
        glob of names, `"op:"` with a glob of operations, a list of these, or `Site -> bool`.

    Returns:
      A function of the same arguments, by position or keyword, that returns the pair of `fun`'s
      result and a `Tape`. Arrays are traced; flags, such as `deterministic=True`, are held fixed.

    Raises:
      TypeError: If `fun` cannot be traced, or `select` is of another type.
      ValueError: If no site is selected.

    Example:
      >>> def network(params, x):
      ...     return jnp.tanh(x @ params["inner"]) @ params["outer"]
      >>> params = {"inner": jnp.array([[2.0], [1.0]]), "outer": jnp.array([[3.0]])}
      >>> out, tape = record(network)(params, jnp.array([[1.0, -2.0]]))
      >>> for name, value in tape.items():
      ...     print(name, value.tolist())
      inner [[0.0]]
      inner/activation [[0.0]]
      outer [[0.0]]
    """

    def recorded(*args: Any, **kwargs: Any) -> tuple[Any, Tape]:
        args, kwargs = first_by_position(fun, args, kwargs)
        program = trace_program("record", fun, args, kwargs)
        chosen = select_sites("record", program.sites, select)
        places = {place: k for k, (_, place) in enumerate(chosen)}
        outputs, values, _ = evaluate(program.jaxpr, program.arrays, places, {})
        out = fun(*args, **kwargs) if program.is_repeatable else program.result_of(outputs)
        return out, Tape({site.name: values[k] for k, (site, _) in enumerate(chosen)})

    return recorded


def record_gradients(
    loss_fn: Callable, select: Select = "layers"
) -> Callable[..., tuple[Any, Any, Tape, Tape]]:
    r"""Return loss, gradients, the values inside, and the derivative of the loss by each.

    $$\bar v_i = \frac{\partial L}{\partial v_i}, \qquad i \in S,$$

    by JAX's own reverse pass, so exact: a perturbation $\epsilon_i = 0$ is made at every site,
    and the gradient by $\epsilon_i$ is $\bar v_i$. One pass gives everything; it costs about one
    gradient. It can be compiled, differentiated and mapped. As in `record`, loss and gradients are
    those of `jax.value_and_grad` to the bit outside `jit`, and to rounding inside.

    Sites in a `scan` have one cotangent a step. In a branch that was not taken, value and
    cotangent are NaN. Inside a function with a derivative rule of its own, or a `while_loop`,
    there are no cotangents: `"layers"` and `"*"` leave these sites out, and asking for one by
    name, operation or predicate raises.

    Args:
      loss_fn: `loss_fn(params, *args, **kwargs)` returns a scalar or a pair `(scalar, aux)`; the
        forms that `fit` takes are among these, and a key and a state may be given as `key=` and
        `model_state=` whatever the loss names them.
      select: Which sites, as for `record`.

    Returns:
      A function of the same arguments, by position or keyword, that returns
      `(loss, gradients, values, cotangents)`, with `(loss, aux)` in place of `loss` if there is an
      `aux`. The gradients have the structure of `params`, with None where a leaf is no array; of a
      module that carries averages or counts, a tree of what is trained in it. For complex values
      the cotangent follows `jax.grad`.

    Raises:
      TypeError: If `loss_fn` cannot be traced, or a parameter is an integer array.
      ValueError: If the loss is no real scalar, no site is selected, or one without a cotangent.

    Example:
      >>> def loss_fn(weight, x):
      ...     return jnp.sum((x @ weight) ** 2)
      >>> weight, x = jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 1.0]])
      >>> loss, gradient, values, cotangents = record_gradients(loss_fn, "op:dot*")(weight, x)
      >>> [leaf.ravel().tolist() for leaf in (loss, gradient, *values.values())]
      [[25.0], [30.0, 10.0], [5.0]]
      >>> [leaf.ravel().tolist() for leaf in cotangents.values()]  # 2 * 5
      [[10.0]]
    """
    caller = "record_gradients"

    def recorded(*args: Any, **kwargs: Any) -> tuple[Any, Any, Tape, Tape]:
        args, kwargs = first_by_position(loss_fn, args, kwargs)
        if not args:
            raise TypeError(f"{caller} needs the parameters as first argument, got none.")
        loss, args, kwargs = _opened(caller, loss_fn, args, kwargs)
        params = take_parameters(caller, args[0])
        program = trace_program(caller, loss, args, kwargs, may_close_over=False)
        has_aux = require_loss(caller, program.result)
        chosen = select_sites(caller, program.sites, select, with_cotangents=True)
        places = {place: k for k, (_, place) in enumerate(chosen)}
        bumps = {k: jnp.zeros(site.shape, site.dtype) for k, (site, _) in enumerate(chosen)}

        def loss_and_values(arrays, bumps):
            inputs = [*arrays, *program.data]
            outputs, values, taken = evaluate(program.jaxpr, inputs, places, bumps)
            return outputs[0], (outputs, values, taken)

        def loss_and_result(arrays):
            result = loss(params.rebuild(arrays), *args[1:], **kwargs)
            return (result[0] if has_aux else result), result

        gradient = jax.value_and_grad(loss_and_values, argnums=(0, 1), has_aux=True)
        (_, (outputs, values, taken)), (by_array, by_bump) = gradient(params.arrays, bumps)
        result = program.result_of(outputs)
        if program.is_repeatable:
            plainly = jax.value_and_grad(loss_and_result, has_aux=True)
            (value, result), by_array = plainly(params.arrays)
            result = (value, result[1]) if has_aux else value
        # What a branch that was not taken leaves of a bump is zero.
        for k, mask in taken.items():
            mask = jnp.reshape(mask, mask.shape + (1,) * (by_bump[k].ndim - mask.ndim))
            by_bump[k] = jnp.where(mask, by_bump[k], jnp.full_like(by_bump[k], jnp.nan))
        names = [site.name for site, _ in chosen]
        return (
            tuple(result) if has_aux else result,
            params.rebuild.alone(by_array),
            Tape({name: values[k] for k, name in enumerate(names)}),
            Tape({name: by_bump[k] for k, name in enumerate(names)}),
        )

    return recorded


def _opened(
    caller: str, loss_fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Split what is trained in a module off, and hand over a key and a state by position."""
    given = {name: kwargs[name] for name in ("key", "model_state") if name in kwargs}
    if given and len(args) == 2 and given.keys() == kwargs.keys():
        bound = bind_given(
            caller, loss_fn, *args, key=given.get("key"), model_state=given.get("model_state")
        )
        return bound.loss_fn, (bound.params, bound.batch), {}
    return *open_model(caller, loss_fn, args), kwargs
