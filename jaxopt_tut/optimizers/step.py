"""One step of any optimizer: the only place that knows what optimizers ask for."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.optimizers.objective import value_and_ascent, within
from jaxopt_tut.types import Params, PyTree


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
    optimizer: optax.GradientTransformation,
    value_fn: Callable[[Params], Any],
    params: Params,
    state: PyTree,
    *,
    known: tuple[Any, PyTree] | None = None,
    **functions: Callable[..., Any],
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
                                 known=(value, jax.tree.map(jnp.conj, grad)))

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
      TypeError: If `optimizer` is no transformation, or asks for what nobody has given; if it is
        `optax.lookahead` and `params` are not a pair of its own.
      ValueError: If a solver of this library asks for what nobody has given; if the optimizer
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
    return take_step("step", optimizer, value_fn, params, state, known, **functions)


def take_step(
    caller: str,
    optimizer: optax.GradientTransformation,
    value_fn: Callable[[Params], Any],
    params: Params,
    state: PyTree,
    known: tuple[Any, PyTree] | None = None,
    **functions: Callable[..., Any],
) -> Step:
    """Do what `step` does for a function that speaks for itself.

    Args:
      caller: Who takes the step; it opens messages.
      optimizer: As in `step`.
      value_fn: As in `step`.
      params: As in `step`.
      state: As in `step`.
      known: As in `step`.
      **functions: As in `step`.

    Returns:
      As `step`.

    Raises:
      TypeError: As `step`.
      ValueError: As `step`.
    """
    known = value_and_ascent(value_fn)(params) if known is None else known
    updates, state = updated(caller, optimizer, value_fn, params, state, known, **functions)
    return Step(optax.apply_updates(params, updates), state, *known)


def is_transformation(thing: Any) -> bool:
    """Tell whether something is an optimizer, by what it can do.

    Args:
      thing: Anything.

    Returns:
      Whether it has `init` and `update`; `optax.MultiSteps` has no class in common with others.

    Example:
      >>> import optax
      >>> is_transformation(optax.sgd(0.1)), is_transformation(optax.sgd)
      (True, False)
    """
    return all(callable(getattr(thing, name, None)) for name in ("init", "update"))


def require_optimizer(caller: str, optimizer: Any) -> None:
    """Refuse what is no transformation.

    Args:
      caller: Who asks; it opens the message.
      optimizer: What was given as one.

    Raises:
      TypeError: If it has no `init` and `update`.

    Example:
      >>> import optax
      >>> require_optimizer("fit", optax.adam)
      Traceback (most recent call last):
      ...
      TypeError: fit needs an optax transformation as optimizer, got a function: call it, adam(...).
    """
    if is_transformation(optimizer):
        return
    name = getattr(optimizer, "__name__", None) if callable(optimizer) else None
    got = repr(optimizer) if name is None else f"a function: call it, {name}(...)"
    raise TypeError(f"{caller} needs an optax transformation as optimizer, got {got}.")


def updated(
    caller: str,
    optimizer: optax.GradientTransformation,
    value_fn: Callable[[Params], Any],
    params: Params,
    state: PyTree,
    known: tuple[Any, PyTree],
    **functions: Callable[..., Any],
) -> tuple[PyTree, PyTree]:
    """Return the update of `step` and the new state.

    Args:
      caller: Who takes the step; it opens messages.
      optimizer: As in `step`.
      value_fn: As in `step`.
      params: As in `step`.
      state: As in `step`.
      known: As in `step`.
      **functions: As in `step`.

    Returns:
      Both.

    Raises:
      TypeError: As `step`.
      ValueError: As `step`.
    """
    value, grad = known[0], _estimate(caller, params, known[1], state)
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
        "grad": _as_asked_for(grad, state),
        "value_fn": value_fn,
        "grad_fn": guarded(lambda params: value_and_ascent(value_fn)(params)[1]),
        "obj_fn": value_fn,
        **{name: guarded(within(function, params)) for name, function in functions.items()},
    }
    # line searches of optax refuse what they are handed and `value_fn` has no name for
    parameters = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in offered]
    vars(value_fn)["__signature__"] = inspect.Signature(parameters)

    extra_args = {name: offered[name] for name in _names(optimizer.update, list(offered))}
    refused: list[str] = []
    while True:
        try:
            return optimizer.update(grad, state, params, **extra_args)
        except Exception as error:
            if error in theirs:
                raise
            # a chain hands all on, also to links that take less
            unwanted = _UNWANTED.search(str(error)) if isinstance(error, TypeError) else None
            if unwanted and unwanted[1] in extra_args:
                del extra_args[unwanted[1]]
                refused.append(unwanted[1])
            elif (missing := _missing(error)) and missing not in offered:
                raise _refusal(caller, missing, list(offered), error) from error
            elif missing in refused:
                raise TypeError(
                    f"{caller} hands the same to all links of a chain; one asks for {missing!r}, "
                    "and another does not take it."
                ) from error
            else:
                raise


_UNWANTED = re.compile(r"(?:unexpected keyword argument|multiple values for argument) '(\w+)'")
_REQUIRED = re.compile(r"missing \d+ required keyword-only arguments?: '(\w+)'")


def takes_any(update: Callable[..., Any]) -> bool:
    """Tell whether an `update` takes whatever extra arguments there are.

    Args:
      update: Of an optimizer; `optax.MultiSteps` takes them, though it is no
        `GradientTransformationExtraArgs`.

    Returns:
      Whether it has `**extra_args`.

    Example:
      >>> import optax
      >>> takes_any(optax.scale(2.0).update), takes_any(optax.sgd(0.1).update)
      (False, True)
    """
    parameters = inspect.signature(update).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _names(update: Callable[..., Any], offered: list[str]) -> list[str]:
    """List those of the names by which an `update` takes extra arguments."""
    parameters = list(inspect.signature(update).parameters.values())
    positional = {p.name for p in parameters[:3] if p.kind is not p.KEYWORD_ONLY}
    if takes_any(update):
        return [name for name in offered if name not in positional]
    return [p.name for p in parameters if p.name in offered and p.name not in positional]


def _as_asked_for(grad: PyTree, state: PyTree) -> PyTree:
    """Conjugate a gradient for the one line search that wants it as `jax.grad` returns it."""
    if not _has(state, optax.ScaleByBacktrackingLinesearchState):
        return grad
    return jax.tree.map(jnp.conj, grad)


def _estimate(caller: str, params: Params, grad: PyTree, state: PyTree) -> PyTree:
    """Return the gradient as the optimizer wants it, or refuse one that has another in mind."""
    if _has(state, optax.LookaheadState):
        if not isinstance(params, optax.LookaheadParams):
            raise TypeError(
                f"{caller} needs optax.LookaheadParams.init_synced(params) as parameters for "
                "optax.lookahead, and a loss of their `fast`."
            )
        return grad.fast if isinstance(grad, optax.LookaheadParams) else grad
    if _has(state, optax.contrib.DifferentiallyPrivateAggregateState):
        shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (grad, params)]
        if shapes[0] == shapes[1]:
            raise ValueError(
                f"{caller} hands over the gradient of the whole batch; "
                "optax.contrib.differentially_private_aggregate asks for one of each example."
            )
    return grad


def _has(state: PyTree, kind: type) -> bool:
    is_one = lambda part: isinstance(part, kind)
    return any(map(is_one, jax.tree.leaves(state, is_leaf=is_one)))


def _missing(error: Exception) -> str | None:
    if "missing" in vars(error):  # a solver here, see `require_objective`
        return vars(error)["missing"]
    found = _REQUIRED.search(str(error)) if isinstance(error, TypeError) else None
    return found and found[1]


def _refusal(caller: str, missing: str, offered: list[str], error: Exception) -> Exception:
    kind = ValueError if isinstance(error, ValueError) else TypeError
    *most, last = offered
    hint = ""
    if missing == "residual_fn":
        hint = ": sums of squares belong in minimize(..., residual_fn=...)"
    return kind(
        f"{caller} hands over {', '.join(most)} and {last}; the optimizer asks for "
        f"{missing!r}{hint}."
    )
