"""What an optimizer's state says to whoever runs the loop, by the names of its fields."""

import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from jaxopt_tut.optimizers.fit_verdict import Verdict
from jaxopt_tut.optimizers.line_search.search import LineSearchState
from jaxopt_tut.types import Number, PyTree


def climbers(state: PyTree) -> list[optax.contrib.SAMState]:
    """List the states of sharpness-aware minimization, which climbs before it descends."""
    is_climber = lambda part: isinstance(part, optax.contrib.SAMState)
    leaves = jax.tree.leaves(state, is_leaf=is_climber)
    return [leaf for leaf in leaves if is_climber(leaf)]


def is_away(state: PyTree) -> Bool[Array, ""]:
    """Tell whether such an optimizer stands at the top of a climb."""
    away = [climber.steps_since_sync != 0 for climber in climbers(state)]
    return functools.reduce(jnp.logical_or, away)


def last_evaluation(state: PyTree) -> tuple[Array, PyTree] | None:
    """Return the value and the gradient that an optimizer left at the point it stepped to.

    Only the last link of a chain can know them: a link after it may change the step.
    """
    while type(state) is tuple and state:
        state = state[-1]
    value, grad = getattr(state, "value", None), getattr(state, "grad", None)
    if value is None or grad is None:
        return None
    if isinstance(state, _OPTAX_SEARCHES):  # they keep what `jax.grad` returns
        grad = optax.tree.conj(grad)
    return value, grad


_OPTAX_SEARCHES = (optax.ScaleByZoomLinesearchState, optax.ScaleByBacktrackingLinesearchState)


def any_failed(state: PyTree) -> Bool[Array, ""]:
    """Tell whether a search for a lower point failed."""
    flags = [flag for _, flag in optax.tree.get_all_with_path(state, "failed")]
    return functools.reduce(jnp.logical_or, flags, jnp.zeros([], bool))


def any_endless(state: PyTree) -> Bool[Array, ""]:
    """Tell whether a line search went down as far as numbers tell lengths apart, and on."""
    is_search = lambda part: isinstance(part, LineSearchState)
    searches = filter(is_search, jax.tree.leaves(state, is_leaf=is_search))
    flags = [s.failed & (s.step_size > 1 / jnp.finfo(s.step_size.dtype).eps) for s in searches]
    return functools.reduce(jnp.logical_or, flags, jnp.zeros([], bool))


def any_rejected(state: PyTree) -> Bool[Array, ""]:
    """Tell whether a solver stayed where it was."""
    flags = [~flag for _, flag in optax.tree.get_all_with_path(state, "accepted")]
    return functools.reduce(jnp.logical_or, flags, jnp.zeros([], bool))


def fit_verdict(state: PyTree) -> Verdict | None:
    """Return what the first link of a chain found out about the fit that it stepped from."""
    while type(state) is tuple and state:
        state = state[0]
    found = getattr(state, "verdict", None)
    return found if isinstance(found, Verdict) else None


def num_evaluations(state: PyTree) -> Number:
    """Count the evaluations that line searches made."""
    counts = [
        count
        for name in ("num_evaluations", "num_linesearch_steps")  # ours, optax's
        for _, count in optax.tree.get_all_with_path(state, name)
    ]
    return sum(jnp.asarray(count, jnp.int32) for count in counts)


def keeps_bounds(state: PyTree) -> bool:
    """Tell whether a link of a chain takes `bounds` and keeps its steps within them."""
    keeps = lambda part: getattr(type(part), "keeps_bounds", False) is True
    return any(map(keeps, jax.tree.leaves(state, is_leaf=keeps)))
