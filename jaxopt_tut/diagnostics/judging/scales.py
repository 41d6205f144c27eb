"""Verdicts on the sizes of the data and of the outputs."""

import math
from collections.abc import Iterator, Sequence

from jaxopt_tut.diagnostics.judging.steps import Step
from jaxopt_tut.diagnostics.judging.thresholds import THRESHOLDS
from jaxopt_tut.diagnostics.judging.verdicts import Verdict


def judge_signal(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find a batch of zeros, on which nothing can be learned of the weights."""
    first = [one for one in steps if one.wiring.is_first and not one.wiring.use.is_derivative]
    sizes = [
        math.nan if s is None else float(s.mean_square) for s in (f.numbers.inputs for f in first)
    ]
    # embeddings may start at zero, and learn from there
    if first and not any(sizes) and not any(one.wiring.looks_up for one in first):
        yield Verdict(
            "no_signal",
            first[0].name,
            "all inputs are zero",
            "the batch carries no signal: what arrives anywhere comes of biases alone",
            "hand in a batch of training data, and see whether a mask or a scale has emptied it",
        )


def judge_inputs(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find data that come in units of their own."""
    for one in steps:
        summary = one.numbers.inputs
        if not one.wiring.is_first or summary is None or one.wiring.use.is_derivative:
            continue
        size, spread = float(summary.mean_square), math.sqrt(summary.variance)
        # One-hot vectors are small and sparse, and should be.
        is_small = 0 < size < THRESHOLDS.small_input and summary.fraction_zero < 0.9
        is_shifted = size > 1 and abs(summary.mean) > THRESHOLDS.shifted_input * spread
        if size > THRESHOLDS.large_input or is_small or is_shifted:
            yield Verdict(
                "input_not_normalized",
                one.name,
                f"inputs have mean {summary.mean:.3g} and standard deviation {spread:.3g}",
                *_why_in_other_units(one, float(summary.mean), spread),
            )


def _why_in_other_units(one: Step, mean: float, spread: float) -> tuple[str, str]:
    """Return cause and fix; what is looked up are no data."""
    expected = "initializers count on mean 0 and variance 1"
    if one.wiring.looks_up:
        return (
            f"embeddings come in units of their own, {expected}",
            "draw the embeddings with variance 1, or divide what is looked up by "
            f"{math.hypot(mean, spread):.3g}",
        )
    return (
        f"the data come in units of their own, {expected}",
        f"feed (x - {mean:.3g}) / {spread:.3g}, with mean and deviation of the training set",
    )


def judge_logits(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find outputs so large that a softmax starts certain."""
    for one in steps:
        variance = one.wiring.use.scale**2 * float(one.numbers.pre_activations.variance)
        is_output = one.is_last and not one.wiring.use.is_derivative
        if is_output and variance > THRESHOLDS.logits:
            spread = math.sqrt(variance)
            yield Verdict(
                "logits_too_large",
                one.name,
                f"outputs have standard deviation {spread:.3g}",
                "the last layer, or all before it, is scaled up: a softmax starts certain and "
                "wrong",
                f"divide the weights of the last layer by {spread:.2g}",
            )
