"""Why a run ended before its time, in one sentence, and rules for ending it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool
from typing_extensions import TypeAliasType

from jaxopt_tut.training.evaluation import DefaultScore, Score
from jaxopt_tut.training.history import History
from jaxopt_tut.training.scalars import Count, as_count, as_score
from jaxopt_tut.training.steps import Carry, Finite, Flags, is_inexact, with_ones
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

Stop = TypeAliasType("Stop", Callable[[History], bool | str | None])
"""Whether to stop after an epoch, or why, by what happened so far."""


def patience(epochs: Count, min_gain: SupportsFloat = 0.0, *, score: Score | None = None) -> Stop:
    r"""Stop training when the score has not risen for some epochs.

    $$s_e > s^* + \delta \;\Rightarrow\; s^* \leftarrow s_e$$

    with $s_e$ the score of epoch $e$ and $\delta$ the least gain; training ends when $s^*$, which
    begins at $-\infty$, has stayed for `epochs` epochs. Small gains count when together they are
    large enough. NaN is no gain.

    Args:
      epochs: Epochs to wait, at least 1.
      min_gain: The least gain $\delta \ge 0$ of the score, in its units.
      score: Maps what `evaluate` returned, as in `fit`, or without it the training loss as
        `"loss"`, to the number whose largest value is best. By default the `"accuracy"`, else
        minus the `"loss"`.

    Returns:
      A pure function of the history, for `fit(..., stop=)`.

    Raises:
      TypeError: If `epochs` is no integer, or `score` returns no number.
      ValueError: If `epochs` or `min_gain` is out of range.

    Example:
      >>> losses = np.array([1.0, 0.75, 0.5, 0.625, 0.375])
      >>> after = lambda n: History({}, {"loss": losses[:n]}, {}, {})
      >>> [bool(patience(2, 0.25)(after(n))) for n in range(1, 6)]
      [False, False, False, False, True]
      >>> patience(2, 0.25)(after(5))
      'the score did not rise by more than 0.25 in 2 epochs, best was -0.5 after epoch 3'

    References:
      Prechelt (1998), Early stopping -- but when?, criterion UP, there in strips of epochs.
    """
    if isinstance(epochs, History):
        raise TypeError("fit needs patience(epochs) as stop, got patience itself.")
    epochs = as_count("patience", "epochs", epochs)
    if epochs < 1:
        raise ValueError(f"patience needs epochs >= 1, got epochs={epochs}.")
    least = float(min_gain)
    if not 0 <= least < math.inf:
        raise ValueError(f"patience needs 0 <= min_gain < inf, got min_gain={min_gain}.")

    def stop(history: History) -> str | None:
        best, best_epoch, scores = -math.inf, 0, _scores(history, score)
        for epoch, value in enumerate(scores, start=1):
            if value > best + least:
                best, best_epoch = value, epoch
        if len(scores) - best_epoch < epochs:
            return None
        gain = f"rise by more than {least:g}" if least else "rise"
        found = f", best was {best:.6g} after epoch {best_epoch}" if best_epoch else ""
        return f"the score did not {gain} in {epochs} epoch{'s' if epochs > 1 else ''}{found}"

    return stop


def _scores(history: History, score: Score | None) -> list[float]:
    """Score every epoch by what `evaluate` returned after it, or else by the training loss."""
    columns = history.validation or {"loss": history.train["loss"]}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    epochs = [dict(zip(columns, row, strict=True)) for row in rows]
    if score is None:
        score = DefaultScore()
        # a name that was left out must not be taken for the one that is there first
        epochs = [{n: v for n, v in epoch.items() if v == v} or epoch for epoch in epochs]
    return [as_score(score(epoch), "patience") for epoch in epochs]


def reason_to_stop(stop: Stop, history: History) -> str | None:
    """Ask the user's rule, and say in a sentence that training ends by it."""
    answer: Any = stop(history)
    if not (answer is None or isinstance(answer, bool | np.bool_ | str)):
        raise TypeError(
            "fit needs stop to return a truth value or the reason as text, "
            f"got {type(answer).__name__}."
        )
    if not answer:
        return None
    reason = answer if isinstance(answer, str) else "stop returned True"
    return f"Stopped after epoch {len(history.train['loss'])}: {reason.rstrip('.')}."


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
