"""What optimizers ask for besides the gradient, and the sentences where it is not to be had."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.types import Params, PyTree


def is_transformation(thing: Any) -> bool:
    """Tell an optimizer by what it can do: `optax.MultiSteps` shares no class with others."""
    return all(callable(getattr(thing, name, None)) for name in ("init", "update"))


def require_optimizer(caller: str, optimizer: Any) -> None:
    """Refuse what has no `init` and `update`."""
    if is_transformation(optimizer):
        return
    name = getattr(optimizer, "__name__", None) if callable(optimizer) else None
    got = repr(optimizer) if name is None else f"a function: call it, {name}(...)"
    raise TypeError(f"{caller} needs an optax transformation as optimizer, got {got}.")


def require_search(caller: str, line_search: Any) -> None:
    """Refuse a line search that was not called."""
    if is_transformation(line_search):
        return
    name = getattr(line_search, "__name__", None) if callable(line_search) else None
    got = repr(line_search) if name is None else f"a function: call it, {name}()"
    raise TypeError(f"{caller} needs one of line_search as line_search=, got {got}.")


def takes_any(update: Callable[..., Any]) -> bool:
    """Tell whether an `update` takes whatever extra arguments there are.

    `optax.MultiSteps` does, though it is no `GradientTransformationExtraArgs`.
    """
    parameters = inspect.signature(update).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def names_taken(update: Callable[..., Any], offered: list[str]) -> list[str]:
    """List those of the extra arguments that an `update` takes by name, or all if it takes any."""
    parameters = list(inspect.signature(update).parameters.values())
    positional = {p.name for p in parameters[:3] if p.kind is not p.KEYWORD_ONLY}
    if takes_any(update):
        return [name for name in offered if name not in positional]
    return [p.name for p in parameters if p.name in offered and p.name not in positional]


def written_as_asked(grad: PyTree, state: PyTree) -> PyTree:
    """Conjugate a gradient for the one line search that wants it as `jax.grad` returns it."""
    if not _has(state, optax.ScaleByBacktrackingLinesearchState):
        return grad
    return optax.tree.conj(grad)


def adapted(caller: str, params: Params, grad: PyTree, state: PyTree) -> PyTree:
    """Return the gradient that an optimizer means: of the fast parameters for `optax.lookahead`."""
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


def _has(state: PyTree, kind: type | tuple[type, ...]) -> bool:
    is_one = lambda part: isinstance(part, kind)
    return any(map(is_one, jax.tree.leaves(state, is_leaf=is_one)))


_REQUIRED = re.compile(r"missing \d+ required keyword-only arguments?: (.*)")


def _missing(error: Exception) -> list[str]:
    """List the arguments that an optimizer says it lacks."""
    if "missing" in vars(error):  # a solver here, see `require_objective`
        return [vars(error)["missing"]]
    found = _REQUIRED.search(str(error)) if isinstance(error, TypeError) else None
    return re.findall(r"'(\w+)'", found[1]) if found else []


def refusal(
    caller: str, error: Exception, offered: list[str], refused: list[str], state: PyTree
) -> str | None:
    """Say in a sentence why an optimizer does not step, if it is for want of an argument."""
    searches = optax.ScaleByBacktrackingLinesearchState, optax.ScaleByZoomLinesearchState
    if _has(state, searches) and optax.MaskedNode.__name__ in str(error):
        return (
            f"{caller} hands over the whole gradient; a line search of optax behind a mask takes "
            "its part of it where mask_compatible_extra_args=True."
        )
    missing = _missing(error)
    unknown = [repr(name) for name in missing if name not in offered]
    if unknown:
        *most, last = offered
        hint = ""
        if missing == ["residual_fn"]:
            hint = ": sums of squares belong in minimize(..., residual_fn=...)"
        return (
            f"{caller} hands over {', '.join(most)} and {last}; the optimizer asks for "
            f"{' and '.join(unknown)}{hint}."
        )
    for name in missing:
        if name in refused:
            return (
                f"{caller} hands the same to all links of a chain; one asks for {name!r}, and "
                "another does not take it."
            )
        return (
            f"{caller} hands over {name!r}; the optimizer has a part that asks for it, and around "
            "it one that does not hand it on, as optax.chain around MultiSteps."
        )
    return None
