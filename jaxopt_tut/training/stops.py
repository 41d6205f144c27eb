"""Why a run ended before its time, in one sentence."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from jaxopt_tut.training.steps import Carry, Finite, Flags, is_inexact, with_ones
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

Retry = Callable[[PyTree, bool], Finite]
"""Takes the step once more, from this state and perhaps with a mended gradient."""

MOST_TRIALS = 16
"""Leaves of an optimizer state that are tried one by one."""


def why_stopped(
    carry: Carry, losses: list[np.ndarray], epoch: int, retry: Retry | None = None
) -> str:
    """Say at which step something was not finite, what, and in which leaf.

    The carry is that of the step that could not be taken, whose loss is the last; `retry` tells
    causes from what else is not finite, and without it all of that is named.
    """
    at_start = [not bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(carry.params)]
    if any(at_start):  # no step leads there
        found = f"are not finite at {_names(carry.params, at_start)}"
        return f"Stopped before the first step: the parameters {found}."
    place = f"in epoch {epoch + 1}, step {int(carry.step) + 1}"
    *before, loss = np.concatenate(losses)
    if not np.isfinite(loss):
        last = f"the last finite loss was {before[-1]:.6g}" if before else "it was the first"
        return f"Stopped at a non-finite loss {place}; {last}."
    blamed = _blame(carry, retry)
    found = []
    if blamed.gradient.any():
        found.append(f"gradient of {_names(carry.params, blamed.gradient)}")
    if blamed.model_state.any():
        found.append(f"model state at {_names(carry.model_state, blamed.model_state)}")
    if blamed.params.any():
        found.append(f"update of {_names(carry.params, blamed.params)}")
    if blamed.opt_state.any():
        found.append(f"optimizer state at {_names(carry.opt_state, blamed.opt_state)}")
    return f"Stopped at a non-finite {' and '.join(found)} {place}, where the loss is {loss:.6g}."


def _blame(carry: Carry, retry: Retry | None) -> Finite:
    """Flag the leaves that made the step impossible: without a cause, less is not finite."""
    assert carry.finite is not None  # the step was exact
    bad = _not(carry.finite)
    if not _any(bad):  # the optimizer skipped the gradient, if that was not finite
        return bad._replace(gradient=bad.gradient & False)
    only_gradient = bad._replace(params=bad.params & False, opt_state=bad.opt_state & False)
    if (bad.gradient & bad.params).any():  # the usual case, in which nothing has to be tried
        return only_gradient
    mended = False
    if bad.gradient.any():  # it spoiled other leaves or a state; or it was skipped, and they are
        if retry is None:  # not finite for other reasons
            return only_gradient
        without = _not(retry(carry.opt_state, True))
        mended = _is_less(without, bad)
        bad = without._replace(gradient=bad.gradient) if mended else bad
        bad = bad._replace(gradient=bad.gradient & mended)
    if _any(bad):
        bad = bad._replace(opt_state=bad.opt_state | _old_nans(carry, bad, retry, mended))
    return bad


def _old_nans(
    carry: Carry, bad: Finite, retry: Retry | None, mended: bool
) -> Bool[np.ndarray, "leaves"]:
    """Flag the leaves whose NaN, there before the step, is to blame; some optimizers start so."""
    leaves, treedef = jax.tree.flatten(carry.opt_state)
    has_nan = np.array([is_inexact(x) and bool(jnp.isnan(x).any()) for x in leaves], bool)
    if retry is None or not has_nan.any():
        return has_nan

    def with_nan_at(kept: int | None) -> Finite:
        chosen = [x if i == kept else with_ones(jnp.isnan, x) for i, x in enumerate(leaves)]
        return _not(retry(jax.tree.unflatten(treedef, chosen), mended))

    without = with_nan_at(None)
    if not _is_less(without, bad):
        return has_nan & False
    if has_nan.sum() > MOST_TRIALS:
        return has_nan
    alone = [one and _is_less(without, with_nan_at(i)) for i, one in enumerate(has_nan)]
    return np.array(alone, bool) if any(alone) else has_nan


def _not(finite: Finite) -> Finite:
    """Flag what is not finite."""
    return Finite(*(~np.asarray(flags) for flags in finite))


def _any(bad: Finite) -> bool:
    """Tell whether the optimizer led to something that is not finite."""
    return bool(bad.params.any() or bad.opt_state.any())


def _is_less(bad: Finite, than: Finite) -> bool:
    """Tell whether something that the optimizer led to is finite here and is not there."""
    return bool((~bad.params & than.params).any() or (~bad.opt_state & than.opt_state).any())


def _names(tree: PyTree, chosen: Sequence[bool] | Flags) -> str:
    """Name the first of the chosen leaves, and count the others."""
    names = [name for (name, _), one in zip(named_leaves(tree), chosen, strict=True) if one]
    return repr(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
