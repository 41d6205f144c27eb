"""Verdicts on sizes on the way back: whether the error reaches the first layers and steps."""

import math
from collections.abc import Iterator, Sequence

from jaxopt_tut.diagnostics.judging.steps import Step
from jaxopt_tut.diagnostics.judging.thresholds import THRESHOLDS
from jaxopt_tut.diagnostics.judging.verdicts import Verdict


def judge_backward(steps: Sequence[Step]) -> Iterator[Verdict]:
    """Find layers whose cotangents are too small or too large beside the last one's."""
    judged = [one for one in steps if not one.wiring.use.is_derivative]
    ends = [one for one in judged if one.is_last]
    reference = max((_total(one) for one in ends), default=0.0)
    depth = max((one.depth for one in ends), default=0)
    if not reference:
        return
    shares = [_total(one) / reference for one in judged]
    reaching = _reaching(judged, shares)
    for one, share in zip(reversed(judged), reversed(shares), strict=True):
        if one.wiring.is_normalized or one.is_last or share == 0:
            continue
        gap, memory = depth - one.depth, one.steps_left
        if one.wiring.use.is_recurrent and not one.wiring.use.loop:  # a loop written out
            memory = max(gap - 1, 0)
        high = THRESHOLDS.backward ** max(1.0, gap / 10)
        low = THRESHOLDS.memory**memory / THRESHOLDS.backward ** max(1.0, (gap - memory) / 10)
        # A query, a key or a gate may hear little, if its neighbours hear more.
        if share <= high and max(share, reaching[one.depth]) >= low:
            continue
        yield _verdict(one, share, depth, low, high, memory > 0)


def _total(one: Step) -> float:
    """Return the sum of the squared cotangents over examples and units."""
    shape = one.wiring.pre_activation.site.shape[one.wiring.num_step_axes :]
    return float(one.numbers.cotangents.mean_square) * math.prod(shape)


def _reaching(steps: Sequence[Step], shares: Sequence[float]) -> dict[int, float]:
    """Give for each depth the largest share that arrives there or further down."""
    reaching, best = {}, 0.0
    for depth in sorted({one.depth for one in steps}):
        here = (s for one, s in zip(steps, shares, strict=True) if one.depth == depth)
        best = max([best, *here])
        reaching[depth] = best
    return reaching


def _verdict(
    one: Step, share: float, depth: int, low: float, high: float, in_time: bool
) -> Verdict:
    is_small = share < 1
    direction = "less" if is_small else "more"
    cause = (
        "on the way back the slopes of the activations and the weights multiply to "
        f"{direction} than one a layer"
    )
    fix = (
        "put the network on the edge of chaos with initializers.critical; or add residual "
        "connections or normalisation"
    )
    if in_time and is_small:
        cause = "the state forgets: a step back in time leaves next to nothing of the cotangent"
        fix = (
            "start the bias of the forget gate at 1 or above, so that the cell keeps its state; "
            "draw the recurrent weights with initializers.orthogonal()"
        )
    elif in_time:
        cause = "a step back in time multiplies the cotangent by more than one"
        fix = (
            "draw the recurrent weights with initializers.orthogonal(); clip the gradient by its "
            "norm"
        )
    return Verdict(
        "vanishing" if is_small else "exploding",
        one.name,
        f"its squared cotangents sum to {share:.2g} of those of the last layer, at depth "
        f"{depth}; healthy is {low:.0e} to {high:.0e}",
        cause,
        fix,
    )
