"""Verdicts on the step of the optimizer."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaxopt_tut.diagnostics.judging.steps import Step, steps_of
from jaxopt_tut.diagnostics.judging.thresholds import THRESHOLDS
from jaxopt_tut.diagnostics.judging.verdicts import Verdict
from jaxopt_tut.diagnostics.measuring.results import Statistics


def hardly_moves(statistics: Statistics) -> bool:
    """Tell whether all updates are tiny beside their weights; False without an optimizer."""
    ratios = [np.ravel(one.numbers.update_ratio) for one in steps_of(statistics)]
    ratio = np.concatenate(ratios)
    known = ratio[np.isfinite(ratio)]
    return bool(known.size and known.max() < THRESHOLDS.low_update)


def judge_learning_rate(steps: Sequence[Step], statistics: Statistics) -> Iterator[Verdict]:
    """Find steps that are too long for the gradient, or too short to matter."""
    known = [one for one in steps if np.isfinite(one.numbers.update_ratio)]
    if not known:
        return
    one = max(known, key=lambda one: float(one.numbers.update_ratio))
    ratio = float(one.numbers.update_ratio)
    text = f"the update is {ratio:.2g} of the weight, usual are 1e-3 to 1e-2"
    # A rate that is being warmed up is small on purpose: it is not judged before it is there.
    is_growing = float(statistics.update_growth) > THRESHOLDS.growth
    is_moot = ratio == 0 and statistics.num_updates == 1 and _has_gradient(steps)
    if ratio < THRESHOLDS.low_update and not is_growing and not is_moot:
        yield _too_low(one, ratio, text, _has_gradient(steps), statistics.num_updates)
    before, after = float(statistics.loss), float(statistics.loss_after_update)
    promised = float(statistics.expected_change)
    does_rise = not after <= before + THRESHOLDS.rise * abs(before)
    # A line search takes long steps, but none that it has not tried.
    is_long = ratio > THRESHOLDS.high_update and not statistics.searches
    if does_rise or is_long:
        yield Verdict(
            "lr_too_high",
            one.name,
            f"{text}; one step takes the loss of its own batch from {before:.3g} to {after:.3g}, "
            f"where the gradient promised {before + promised:.3g}",
            "the update goes up the gradient, not down"
            if promised > 0
            else "the step is longer than the gradient can be trusted",
            "negate the updates, as optax.scale_by_learning_rate does"
            if promised > 0
            else "divide the learning rate by 10, or warm it up",
        )


def _has_gradient(steps: Sequence[Step]) -> bool:
    return any(one.numbers.weight_gradients.mean_square > 0 for one in steps)


def _too_low(one: Step, ratio: float, text: str, has_gradient: bool, num_updates: int) -> Verdict:
    if ratio:
        return Verdict(
            "lr_too_low",
            one.name,
            text,
            "the learning rate is too small for the sizes of weights and gradients",
            f"multiply the learning rate by {10 ** round(math.log10(1e-3 / ratio)):g}",
        )
    if not has_gradient:
        return Verdict(
            "lr_too_low",
            one.name,
            "all gradients are zero, and so are the updates",
            "nothing that the loss depends on is a parameter, or all units in between are off",
            "find out what makes the gradients zero",
        )
    return Verdict(
        "lr_too_low",
        one.name,
        f"the first {num_updates} updates are zero, the gradients are not",
        "a learning rate of 0, a schedule that starts later, an accumulation over more batches, or "
        "a mask over all layers",
        "nothing, if that is meant; else hand in a learning rate above 0",
    )
