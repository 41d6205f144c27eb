"""One step of any optimizer: the only place that hands over what optimizers ask for."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from jaxopt_tut.blocks import shown
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers.extra_arguments import (
    adapted,
    names_taken,
    refusal,
    require_optimizer,
    written_as_asked,
)
from jaxopt_tut.optimizers.objective import within
from jaxopt_tut.optimizers.step_arguments import (
    check_functions,
    check_known,
    check_shapes,
    check_state,
    with_real_values,
)
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Optimizer, Params, PyTree


@shown
class Step(NamedTuple):
    """What `step` returns: where it went, and what it saw where it came from."""

    params: Params
    """The new parameters."""
    state: PyTree
    """The optimizer's new state."""
    value: Any
    """The value at the parameters that `step` was given."""
    grad: PyTree
    """The direction of ascent there: the gradient, for complex parameters its conjugate."""


def step(
    optimizer: Optimizer,
    value_fn: Callable[[Params], Any],
    params: Params,
    state: PyTree,
    *,
    known: tuple[Any, PyTree] | None = None,
    **functions: Any,
) -> Step:
    r"""Take one step of any optimizer, and hand it whatever it asks for.

    $$w_{t+1} = w_t + u_t, \qquad (u_t, s_{t+1}) = \mathrm{update}(g_t, s_t, w_t, \dots), \qquad
    g_t = \nabla f(w_t)$$

    For loops of one's own, whatever optimizer comes: optax's and those here ask for extra
    arguments by name, and a loop that hands over too few, or too many, fails with some of them.
    Each gets those of the following that it takes:

    | argument | what it is | who asks |
    |---|---|---|
    | `value` | $f(w_t)$ | `polyak_sgd`, `momo`, `reduce_on_plateau`, line searches |
    | `grad` | $g_t$ | line searches |
    | `value_fn` | $f$ | line searches, Newton's methods, trust regions |
    | `grad_fn` | $w, \ldots \mapsto \nabla f(w)$ | `optax.contrib.sam(opaque_mode=True)` |
    | `obj_fn` | $f$ | `optax.contrib.sophia` |
    | `residual_fn`, ... | those of `functions` | `gauss_newton`, `levenberg_marquardt` |

    What nobody calls costs nothing under `jit`, and no derivative goes through it. The cost is
    that of the optimizer and of one gradient, or none where `known` gives it.

    A function with auxiliary values is evaluated by the caller, who keeps them:

        (value, aux), grad = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
        params, state, *_ = step(optimizer, lambda w: loss_fn(w, batch)[0], params, state,
                                 known=(value, optax.tree.conj(grad)))

    What an optimizer has to tell stands in fields of its state, which `minimize` looks for:
    `value` and `grad` of the last link of a chain, those at the new parameters
    (so that they are known to the next step, if `value_fn` stays the same); `failed`: a search
    found no lower point; `accepted`: whether it moved; `num_evaluations`: calls of `value_fn` in
    the step; and `metric`, of the class, as `stationarity` reads it.

    Args:
      optimizer: Any optax transformation, or `optax.MultiSteps`.
      value_fn: $f$: a real scalar of the parameters.
      params: $w_t$.
      state: $s_t$, at first `optimizer.init(params)`.
      known: $f(w_t)$ and $g_t$ if they are known, so that they are not evaluated again; $g_t$ may
        be any estimate, too.
      **functions: Further functions of the parameters, by the name by which optimizers ask.

    Returns:
      The new parameters and state, and the value and the direction of ascent at $w_t$.

    Raises:
      TypeError: If `optimizer` is no transformation, or asks for what nobody has given; if a
        function is none, or has the name of what is handed over anyway; if a parameter is not
        floating or complex; if the optimizer is `optax.lookahead` and `params` are not a pair of
        its own.
      ValueError: If the value is no real scalar; if `known`, `state` or the update does not fit
        `params`; if a solver of this library asks for what nobody has given; if the optimizer
        wants a gradient of each example (`optax.contrib.dpsgd`) and `known` does not give it.

    Example:
      Polyak's step, $f / \lVert g \rVert^2$ times the gradient, halves the distance on a parabola.

      >>> import jax.numpy as jnp, optax
      >>> loss = lambda w: (w - 3.0) ** 2
      >>> optimizer = optax.polyak_sgd()
      >>> w = jnp.array(1.0)
      >>> w, state, value, grad = step(optimizer, loss, w, optimizer.init(w))
      >>> print(w, value, grad)
      2.0 4.0 -4.0

    References:
      Loizou, Vaswani, Laradji, Lacoste-Julien (2021), eq. 2. https://arxiv.org/abs/2002.10542
    """
    require_optimizer("step", optimizer)
    check_functions(value_fn, functions)
    if known is None:
        require_inexact(params, "step")
    else:
        check_known(known, params)
    loss_fn = with_real_values(value_fn)
    try:
        after = take_step("step", optimizer, loss_fn, params, state, known, **functions)
    except Exception as error:
        check_state(state, optimizer, params, error)
        raise
    check_shapes(after.params, params)
    return after


def take_step(
    caller: str,
    optimizer: Optimizer,
    value_fn: Callable[[Params], Any],
    params: Params,
    state: PyTree,
    known: tuple[Any, PyTree] | None = None,
    **functions: Any,
) -> Step:
    """Do what `step` does for a function that speaks for itself: its name opens the messages."""
    known = value_and_ascent(value_fn)(params) if known is None else known
    updates, state = updated(caller, optimizer, value_fn, params, state, known, **functions)
    return Step(optax.apply_updates(params, updates), state, *known)


def updated(
    caller: str,
    optimizer: Optimizer,
    value_fn: Callable[[Params], Any],
    params: Params,
    state: PyTree,
    known: tuple[Any, PyTree],
    **functions: Any,
) -> tuple[PyTree, PyTree]:
    """Return the update of `take_step` and the new state."""
    value, grad = known[0], adapted(caller, params, known[1], state)
    theirs: list[Exception] = []  # what the functions raise is not to be laid to the optimizer

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(params: Params, *_: Any, **__: Any) -> Any:
            try:
                return function(params)
            except Exception as error:
                theirs.append(error)
                raise

        return call

    value_fn = guarded(within(value_fn, params))
    offered: dict[str, Any] = {
        "value": value,
        "grad": written_as_asked(grad, state),
        "value_fn": value_fn,
        "grad_fn": guarded(lambda params: value_and_ascent(value_fn)(params)[1]),
        "obj_fn": value_fn,
        **{
            name: guarded(within(given, params)) if callable(given) else given
            for name, given in functions.items()
        },
    }
    # line searches of optax refuse what they are handed and `value_fn` has no name for
    parameters = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in offered]
    vars(value_fn)["__signature__"] = inspect.Signature(parameters)

    extra_args = {name: offered[name] for name in names_taken(optimizer.update, list(offered))}
    refused: list[str] = []
    while True:
        try:
            return optimizer.update(grad, state, params, **extra_args)
        except Exception as error:
            if error in theirs:
                raise
            # a chain hands all on, also to links that take less
            unwanted = _UNWANTED.search(str(error)) if isinstance(error, TypeError) else None
            name = (unwanted[1] or unwanted[2]) if unwanted else ""
            if name in extra_args:
                del extra_args[name]
                refused.append(name)
            elif sentence := refusal(caller, error, list(offered), refused, state):
                kind = ValueError if isinstance(error, ValueError) else TypeError
                raise kind(sentence) from error
            else:
                raise


_UNWANTED = re.compile(
    r"(?:unexpected keyword argument|multiple values for argument) '(\w+)'"
    r"|abstract array.* at path \w+\['(\w+)'\]",  # a compiled `update` takes no functions
    re.DOTALL,
)
