"""When a loss first reaches its target, and how well a median of such times is known."""

import math

import numpy as np
from jaxtyping import Float


def first_crossing(
    losses: Float[np.ndarray, "... evaluations"],
    steps: Float[np.ndarray, "evaluations"],
    target: Float[np.ndarray, "..."] | float,
) -> Float[np.ndarray, "..."]:
    r"""Return the first step at which each loss is at or below its target, infinity if it never is.

    $$t = s_{i-1} + (s_i - s_{i-1}) \frac{L_{i-1} - L^*}{L_{i-1} - L_i},
      \qquad i = \min\{j : L_j \le L^*\}$$
    """
    losses, target = np.asarray(losses, np.float64), np.asarray(target, np.float64)
    reached = (losses <= target[..., None]) & np.isfinite(losses)
    index = np.argmax(reached, axis=-1)
    before = np.maximum(index - 1, 0)
    low = np.take_along_axis(losses, index[..., None], -1)[..., 0]
    high = np.take_along_axis(losses, before[..., None], -1)[..., 0]
    # Whole steps would tie all runs that cross between the same two evaluations. A loss that was
    # not finite before, or a target that holds from the start, leaves nothing to interpolate.
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (high - target) / (high - low)
    share = np.where(np.isfinite(share) & np.isfinite(high) & (index > 0), share, 1.0)
    crossing = steps[before] + (steps[index] - steps[before]) * share
    # Nobody is faster than one step: ratios of times need positive ones.
    return np.where(np.any(reached, axis=-1), np.maximum(crossing, 1.0), math.inf)


def median_interval(
    values: Float[np.ndarray, "... n"], level: float = 0.95
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], float]:
    r"""Return an interval for the median between order statistics, and its coverage.

    $$P(x_{(k)} \le m \le x_{(n+1-k)}) \ge 1 - 2^{1-n} \sum_{i<k} \binom{n}{i}$$

    It holds for every distribution, infinite values included (David and Nagaraja 2003, Order
    Statistics, section 7.1); the widest one where no two of the values reach the level.
    """
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    tails = np.cumsum([math.comb(n, i) for i in range(n // 2 + 1)]) / 2.0**n
    outside = int(np.sum(2 * tails <= 1 - level))  # values that may be left out on either side
    k = max(outside, 1)
    coverage = 1 - 2 * float(tails[k - 1])
    return ordered[..., k - 1], ordered[..., n - k], max(coverage, 0.0)
