"""Why a run ended before its time, in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.training.steps import Carry
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree


def why_stopped(carry: Carry, losses: list[np.ndarray], epoch: int) -> str:
    """Say at which step something was not finite, what, and in which leaf.

    Args:
      carry: Of the step that could not be taken.
      losses: Of all steps, the last one included, an array an epoch.
      epoch: Of that step, counted from 0.

    Returns:
      One sentence.
    """
    at_start = [not jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(carry.params)]
    if any(at_start):  # no step leads there
        found = f"are not finite at {_names(carry.params, at_start)}"
        return f"Stopped before the first step: the parameters {found}."
    place = f"in epoch {epoch + 1}, step {int(carry.step) + 1}"
    *before, loss = np.concatenate(losses)
    if not np.isfinite(loss):
        last = f"the last finite loss was {before[-1]:.6g}" if before else "it was the first"
        return f"Stopped at a non-finite loss {place}; {last}."
    assert carry.finite is not None  # the step was exact
    gradient, params, model_state, opt_state = (~np.asarray(flags) for flags in carry.finite)
    found = []
    if gradient.any():
        found.append(f"gradient of {_names(carry.params, gradient)}")
    if model_state.any():
        found.append(f"model state at {_names(carry.model_state, model_state)}")
    if params.any() and not gradient.any():
        found.append(f"update of {_names(carry.params, params)}")
    has_nan = [_has_nan(leaf) for leaf in jax.tree.leaves(carry.opt_state)]
    spoilt = opt_state | np.asarray(has_nan, bool)
    if spoilt.any() and not gradient.any():
        found.append(f"optimizer state at {_names(carry.opt_state, spoilt)}")
    return f"Stopped at a non-finite {' and '.join(found)} {place}, where the loss is {loss:.6g}."


def _has_nan(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact) and jnp.any(jnp.isnan(leaf)))


def _names(tree: PyTree, chosen) -> str:
    """Name the first of the chosen leaves, and count the others."""
    names = [name for (name, _), one in zip(named_leaves(tree), chosen, strict=True) if one]
    return repr(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
