"""Verdicts on units and examples: those that are equal, dead, flat, or have become one."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from jaxopt_tut.diagnostics.judging.steps import Step, join_steps
from jaxopt_tut.diagnostics.judging.thresholds import THRESHOLDS
from jaxopt_tut.diagnostics.judging.verdicts import Verdict, initializer


def judge_symmetric(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find units that get the same gradient."""
    for one in steps:
        # A layer of zeros learns if it hears of the error and reads something. One that does
        # neither stays as it is, and so do all that are like it.
        is_zero = one.numbers.weights.fraction_zero == 1
        if is_zero and not one.numbers.weight_gradients.mean_square:
            if not _waits(one, steps):
                yield _symmetric(
                    one,
                    "all weights are zero, and so are their gradients",
                    "weights of zero on both sides of a layer keep it from learning: all units "
                    "start equal and stay equal",
                )
            continue
        # A normalisation of equal units gives zero up to rounding, and so a gradient of noise. The
        # units of the last layer are told apart by the loss.
        if is_constant(one) and one.wiring.fan_out > 1 and not one.is_last:
            yield _symmetric(one, f"all weights are {one.numbers.weights.mean:.3g}")
            continue
        active, distinct = int(one.numbers.active_gradients), int(one.numbers.distinct_gradients)
        if active >= 2 and distinct <= max(1, THRESHOLDS.symmetric * active):
            values = "values" if distinct > 1 else "value"
            yield _symmetric(
                one, f"the gradients of {active} units take {distinct} distinct {values}"
            )


def is_constant(one: Step) -> bool:
    """Tell whether all weights of a layer are one number, which is not zero."""
    weights = one.numbers.weights
    return bool(weights.mean and weights.variance <= 1e-10 * weights.mean**2)


def _symmetric(
    one: Step,
    evidence: str,
    cause: str = "units that start equal get equal gradients and stay equal",
) -> Verdict:
    fix = f"draw the weights at random, with {initializer(one)} for instance"
    return Verdict("symmetric", one.name, evidence, cause, fix)


def _waits(one: Step, steps: Sequence[Step]) -> bool:
    """Tell whether a layer of zeros hears nothing yet, as one behind it is zero too, but learns."""
    # So does a modulation in front of a readout of zeros. It learns from the second step on if
    # what the readout reads tells units apart.
    inputs = one.numbers.inputs
    return (
        inputs is not None
        and float(inputs.mean_square) > 0
        and any(
            other.depth > one.depth
            and other.numbers.weights.fraction_zero == 1
            and other.numbers.weight_gradients.mean_square > 0
            and other.numbers.inputs is not None
            and other.numbers.inputs.variance > 0
            for other in steps
        )
    )


def judge_dead(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find layers with more units that are off than theory expects."""
    for one, dead in join_steps(steps, "fraction_dead", np.min):
        expected, summary = _expected_dead(one), one.numbers.pre_activations
        # Where nothing arrives at all, the cause lies further up.
        is_moot = summary.mean_square == 0
        # Of few units the share scatters: three standard deviations, a tenth more at most.
        least = THRESHOLDS.dead_above_prediction
        scatter = 3 * math.sqrt(expected * (1 - expected) / one.wiring.fan_out)
        above = min(max(least, scatter), least + 0.1)
        if is_moot or dead <= min(expected + above, 0.99):
            continue
        yield Verdict(
            "dead",
            one.name,
            f"{dead:.0%} of the units are zero for the whole batch, theory expects "
            f"{expected:.0%}; pre-activations have mean {summary.mean:.3g} and standard deviation "
            f"{math.sqrt(summary.variance):.3g}",
            "biases far below zero, or a step that was too large earlier in training"
            if summary.mean < 0
            else "units whose weights point away from all of the data",
            "start biases at 0; lower the learning rate, or use an activation with a slope on the "
            "left, such as jax.nn.leaky_relu",
        )


def _expected_dead(one: Step) -> float:
    """Return the share of units that are off for all examples, by the integral in `thresholds`."""
    site = one.wiring.pre_activation.site
    n = math.prod(site.shape[axis] for axis in site.batch_axes)
    c = float(one.numbers.correlation)
    if one.wiring.bend.site.kind == "norm" or math.isnan(c):
        c = 0.0
    c = min(max(c, 0.0), 1 - 1e-9)
    t, weights = hermegauss(60)  # the integral over t ~ N(0, 1), which all examples share
    off = np.array([0.5 * math.erfc(x * math.sqrt(c / (1 - c) / 2)) for x in t])
    return float(weights @ off**n / weights.sum())


def judge_saturated(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find activations on the flat parts of their function."""
    for one, saturated in join_steps(steps, "fraction_saturated", np.median):
        if saturated > THRESHOLDS.saturated:
            spread = one.wiring.use.scale * math.sqrt(one.numbers.pre_activations.mean_square)
            yield Verdict(
                "saturated",
                one.name,
                f"{saturated:.0%} of the activations have a slope below 0.05; pre-activations have "
                f"root mean square {spread:.3g}",
                "the weights are too large for an activation that is bounded",
                # A layer that gives zero shares its nonlinearity with one that does not.
                (f"multiply the weights by {1 / spread:.2g}, or " if spread else "")
                + f"draw them with {initializer(one)}",
            )


def judge_collapse(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find layers where all examples have become one."""
    for one, c in join_steps(steps, "correlation", np.min):
        if one.wiring.is_normalized or math.isnan(c):
            continue
        predicted = 9 * math.pi**2 / (2 * one.depth**2)
        if 1 - c < min(THRESHOLDS.collapse, predicted / 10):
            yield Verdict(
                "rank_collapse",
                one.name,
                f"two examples differ by 1 - c = {max(1 - c, 0.0):.2g} in correlation c; a network "
                f"on the edge of chaos has {min(predicted, 1):.2g} left at depth {one.depth}",
                *_why_alike(one),
            )


def _why_alike(one: Step) -> tuple[str, str]:
    """Return cause and fix; what the first layer reads are the data themselves."""
    if one.wiring.is_first:
        return (
            "the examples of the batch are alike, or biases outweigh what tells them apart",
            "look whether the batch holds different examples; start biases at 0",
        )
    return (
        "the weights are in the ordered phase, or biases outweigh them: all inputs become one",
        "put the network on the edge of chaos with initializers.critical, or start biases at 0",
    )
