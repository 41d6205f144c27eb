"""Verdicts on sizes: of the data, forward, backward, and of the outputs."""

import math
from collections.abc import Iterator, Sequence

from jaxopt_tut.diagnostics.thresholds import THRESHOLDS
from jaxopt_tut.diagnostics.verdicts import Step, Verdict, initializer, mean_square, suitable_gain


def judge_inputs(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find data that come in units of their own.

    Args:
      steps: What `steps_of` gives.

    Yields:
      A verdict for each step of a layer.
    """
    for one in steps:
        summary = one.numbers.inputs
        if not one.wiring.is_first or summary is None:
            continue
        size, spread = mean_square(summary), math.sqrt(summary.variance)
        # One-hot vectors are small and sparse, and should be.
        is_small = 0 < size < THRESHOLDS.small_input and summary.fraction_zero < 0.9
        is_shifted = size > 1 and abs(summary.mean) > THRESHOLDS.shifted_input * spread
        if size > THRESHOLDS.large_input or is_small or is_shifted:
            yield Verdict(
                "input_not_normalized",
                one.name,
                f"inputs have mean {summary.mean:.3g} and standard deviation {spread:.3g}",
                "the data come in units of their own, initializers count on mean 0 and variance 1",
                f"feed (x - {summary.mean:.3g}) / {spread:.3g}, with mean and deviation of the "
                "training set",
            )


def judge_forward(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find pre-activations that are too small or too large for their depth.

    Args:
      steps: What `steps_of` gives.

    Yields:
      A verdict for each step of a layer.
    """
    sizes = [
        mean_square(one.numbers.inputs)
        for one in steps
        if one.wiring.is_first and one.numbers.inputs is not None
    ]
    size = max(sizes, default=1.0) or 1.0
    high = THRESHOLDS.exploding * max(size, 1.0)
    for one in steps:
        weights, inputs = one.numbers.weights, one.numbers.inputs
        # Weights that are all zero are meant: a branch that starts switched off.
        if one.wiring.is_normalized or weights.fraction_zero == 1:
            continue
        low = THRESHOLDS.vanishing * min(size, 1.0) / one.depth
        variance = float(one.numbers.pre_activations.variance)
        # A recurrent weight reads a state of zeros at first.
        if variance == 0 and one.wiring.num_step_axes > one.wiring.num_weight_steps:
            continue
        read = 0.0 if inputs is None else mean_square(inputs)
        factor = variance / read if read else 1.0
        # What the factor is on average over draws: with few outputs the measured one scatters.
        expected = one.wiring.fan_in * mean_square(weights)
        is_high = variance > high or max(factor, expected) > THRESHOLDS.exploding
        if not is_high and variance >= low and factor >= THRESHOLDS.small_factor:
            continue
        is_own = not 2 * THRESHOLDS.small_factor <= factor <= 8 or expected > THRESHOLDS.exploding
        direction = "large" if is_high else "small"
        fan_in = one.wiring.fan_in
        yield Verdict(
            "exploding" if is_high else "vanishing",
            one.name,
            f"pre-activations have variance {variance:.3g} at depth {one.depth}, healthy is "
            f"{low:.2g} to {high:.2g}; that is {factor:.3g} times the mean square of the input, "
            f"such weights give {expected:.3g} times on average",
            f"weights of standard deviation {math.sqrt(mean_square(weights)):.3g} are too "
            f"{direction} for a fan-in of {fan_in}"
            if is_own
            else f"a factor a layer that is a little too {direction} adds up over the depth",
            f"draw the weights with {initializer(one)}, standard deviation "
            f"{math.sqrt(suitable_gain(one) / fan_in):.3g}; or set all scales with "
            "calibration.auto_init",
        )


def judge_backward(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find layers whose cotangents are too small or too large beside the last one's.

    Args:
      steps: What `steps_of` gives.

    Yields:
      A verdict for each step of a layer.
    """

    def total(one):
        shape = one.wiring.pre_activation.shape[one.wiring.num_step_axes :]
        return mean_square(one.numbers.cotangents) * math.prod(shape)

    ends = [one for one in steps if one.is_last]
    reference = max((total(one) for one in ends), default=0.0)
    depth = max((one.depth for one in ends), default=0)
    for one in reversed(steps):
        share = total(one) / reference if reference else 0.0
        if one.wiring.is_normalized or one.is_last or share == 0:
            continue
        bound = THRESHOLDS.backward ** max(1.0, (depth - one.depth) / 10)
        if 1 / bound <= share <= bound:
            continue
        yield Verdict(
            "vanishing" if share < 1 else "exploding",
            one.name,
            f"its squared cotangents sum to {share:.2g} of those of the last layer, at depth "
            f"{depth}; healthy is {1 / bound:.0e} to {bound:.0e}",
            "on the way back the slopes of the activations and the weights multiply to "
            f"{'less' if share < 1 else 'more'} than one a layer",
            "put the network on the edge of chaos with initializers.critical; or add residual "
            "connections or normalisation",
        )


def judge_logits(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find outputs so large that a softmax starts certain.

    Args:
      steps: What `steps_of` gives.

    Yields:
      A verdict for each step of a layer.
    """
    for one in steps:
        variance = float(one.numbers.pre_activations.variance)
        if one.is_last and variance > THRESHOLDS.logits:
            spread = math.sqrt(variance)
            yield Verdict(
                "logits_too_large",
                one.name,
                f"outputs have standard deviation {spread:.3g}",
                "the last layer, or all before it, is scaled up: a softmax starts certain and "
                "wrong",
                f"divide the weights of the last layer by {spread:.2g}",
            )
