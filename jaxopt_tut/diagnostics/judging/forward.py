"""Verdicts on sizes on the way forward: what arrives at the nonlinearities."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxopt_tut.diagnostics.judging.steps import Step
from jaxopt_tut.diagnostics.judging.thresholds import THRESHOLDS
from jaxopt_tut.diagnostics.judging.verdicts import Verdict, initializer, suitable_gain


class Arrival(NamedTuple):
    """What a layer makes of what it reads.

    Attributes:
      variance: Of the pre-activations, times the constant that follows.
      read: Mean square of the input; NaN where it is not known.
      factor: Ratio of the two.
      varying: The same without what all examples have in common, such as a bias.
      gain: What the factor is on average over draws of such weights; NaN where not known.
    """

    variance: float
    read: float
    factor: float
    varying: float
    gain: float


def arrival(one: Step) -> Arrival:
    """Measure what a layer makes of what it reads."""
    scale = one.wiring.use.scale**2
    variance = scale * float(one.numbers.pre_activations.variance)
    inputs = one.numbers.inputs
    read = math.nan if inputs is None else float(inputs.mean_square)
    factor = variance / read if read > 0 else math.nan
    c = float(one.numbers.correlation)
    total = scale * float(one.numbers.pre_activations.mean_square)
    varying = (total if math.isnan(c) else (1 - c) * total) / read if read > 0 else math.nan
    return Arrival(variance, read, factor, varying, scale * float(one.numbers.gain))


def judge_forward(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find pre-activations that are too small or too large for their depth."""
    sizes = [
        float(one.numbers.inputs.mean_square)
        for one in steps
        if one.wiring.is_first and one.numbers.inputs is not None
    ]
    size = max(sizes, default=1.0) or 1.0
    high = THRESHOLDS.exploding * max(size, 1.0)
    for one in steps:
        found = arrival(one)
        # Weights that are all zero are meant: a branch that starts switched off. And where
        # nothing comes in, as at the first step of a recurrence, there is nothing to judge.
        is_off = one.numbers.weights.fraction_zero == 1 or found.read == 0
        if is_off or one.wiring.is_normalized or one.wiring.use.is_derivative:
            continue
        low = THRESHOLDS.vanishing * min(size, 1.0) / one.depth
        is_high = _is_high(one, found, high)
        if is_high or ((found.variance < low and _counts(one)) or _is_small(one, found, steps)):
            yield _verdict(one, found, is_high, low, high)


def _counts(one: Step) -> bool:
    """Tell whether the size of a layer's values matters for itself."""
    # In a cell they are one term of a sum; outputs may start near zero.
    return not (one.wiring.use.is_recurrent or one.wiring.use.loop or one.is_last)


def _is_high(one: Step, found: Arrival, high: float) -> bool:
    inputs = one.numbers.inputs
    # A row of one-hot vectors has one term in each sum.
    is_sparse = inputs is not None and inputs.fraction_zero > 0.9
    is_strong = (
        found.gain > THRESHOLDS.large_gain
        and not is_sparse
        # Large weights that make up for small inputs are right.
        and not found.gain * found.read < THRESHOLDS.small_arrival
    )
    if one.wiring.activation is not None and one.wiring.activation.site.op in ("sin", "cos"):
        # A wave is flat nowhere for long, and its first frequencies are those of the data.
        return is_strong and not one.wiring.is_first
    is_raised = found.factor > THRESHOLDS.exploding and found.variance > 1 and not is_sparse
    return found.variance > high or is_strong or is_raised


def _is_small(one: Step, found: Arrival, steps: Sequence[Step]) -> bool:
    bound = THRESHOLDS.small_factor
    if math.isnan(found.gain):  # the function makes the matrix in a way that is not followed
        return found.factor < bound
    # what is read may be unknown, as inside a scan over layers: the gain is to be judged alone
    is_weak = found.gain < bound and (one.wiring.use.is_recurrent or not found.varying >= bound)
    # Glorot's scheme halves the way between both directions: small forward where a layer widens.
    balance = found.gain * (1 + one.wiring.fan_out / one.wiring.fan_in) / 2
    is_weak &= balance < THRESHOLDS.balanced
    return is_weak and not any(_lends_its_size(other, one) for other in steps)


def _lends_its_size(other: Step, one: Step) -> bool:
    """Tell whether one layer is as small as another, healthy one on purpose."""
    # Cells draw all their weights by the width of the state, whatever the fan-in; a layer of sines
    # counts on a frequency behind it, and the outputs are drawn like it.
    same_cell = one.wiring.use.loop and one.wiring.use.loop == other.wiring.use.loop
    in_cell = same_cell and other.wiring.use.is_recurrent and not one.wiring.use.is_recurrent
    behind_waves = one.is_last and other.wiring.use.scale > 1
    if not (in_cell or behind_waves):
        return False
    size, own = (float(each.numbers.weights.mean_square) for each in (other, one))
    gain = other.wiring.use.scale**2 * float(other.numbers.gain)
    return gain >= THRESHOLDS.small_factor and own >= size / 4


def _verdict(one: Step, found: Arrival, is_high: bool, low: float, high: float) -> Verdict:
    wiring, direction = one.wiring, "large" if is_high else "small"
    fan_in, use = wiring.fan_in, wiring.use
    expected = found.gain if math.isfinite(found.gain) else found.factor
    is_own = not 2 * THRESHOLDS.small_factor <= expected <= 8
    deviation = math.sqrt(one.numbers.weights.mean_square)
    suitable = math.sqrt(suitable_gain(one) / fan_in) / abs(use.scale or 1.0)
    fix = (
        f"draw the weights with {initializer(one)}, standard deviation {suitable:.3g}; or set all "
        "scales with calibration.auto_init"
    )
    cause = f"weights of standard deviation {deviation:.3g} are too {direction} for a fan-in of "
    cause += f"{fan_in}"
    if not is_own:
        cause = f"a factor a layer that is a little too {direction} adds up over the depth"
    elif not use.is_plain or use.scale != 1:
        factor = math.sqrt(suitable_gain(one) / expected) if expected > 0 else math.inf
        cause = f"the weights, with all that scales them, are too {direction} for a fan-in of "
        cause += f"{fan_in}"
        fix = f"multiply the weights, or what scales them, by {factor:.3g}"
    elif use.is_recurrent:
        cause = f"recurrent weights of standard deviation {deviation:.3g} are too {direction}: " + (
            "the state is blown up at each step"
            if is_high
            else "each step forgets what the state was"
        )
        fix = (
            "draw the recurrent weights with initializers.orthogonal(), standard deviation "
            f"{1 / math.sqrt(fan_in):.3g}"
        )
    evidence = _evidence(found, expected, one.depth, low, high)
    if use.is_recurrent and math.isfinite(found.gain):
        evidence = (
            f"such weights make {expected:.3g} times the mean square of the state at each step, "
            f"healthy is {THRESHOLDS.small_factor:g} to {THRESHOLDS.large_gain:g}"
        )
    return Verdict(
        "exploding" if is_high else "vanishing",
        wiring.name if use.loop else one.name,
        evidence,
        cause,
        fix,
    )


def _evidence(found: Arrival, expected: float, depth: int, low: float, high: float) -> str:
    """Say the sizes, with the bound of the one that is out of its range."""
    size = f"pre-activations have variance {found.variance:.3g} at depth {depth}"
    factor = f"that is {found.factor:.3g} times the mean square of the input"
    gain = f"such weights give {expected:.3g} times on average"
    if not low <= found.variance <= high:
        size += f", healthy is {low:.2g} to {high:.2g}"
    elif not THRESHOLDS.small_factor <= expected <= THRESHOLDS.large_gain:
        gain += f", healthy is {THRESHOLDS.small_factor:g} to {THRESHOLDS.large_gain:g}"
    elif found.factor > THRESHOLDS.exploding:
        factor += f", healthy is at most {THRESHOLDS.exploding:g}"
    return f"{size}; {gain}" if math.isnan(found.factor) else f"{size}; {factor}, {gain}"
