r"""Derivatives from differences on a ladder of steps, each with an estimate of its error.

With $p_j = f(x + h_j v) - f(x)$ and $m_j = f(x - h_j v) - f(x)$ on steps falling by factors $r_j$,

$$A_j = \frac{p_j - m_j}{2 h_j}, \qquad B_j = A_j + \frac{A_j - A_{j-1}}{r_j^2 - 1}, \qquad
  C_j = \frac{p_j + m_j}{h_j}, \qquad \kappa_j = C_j - \frac{C_{j-1} - C_j}{r_j - 1}$$

$B_j$ is Richardson's extrapolation of the slope. $C_j$ is the slope ahead less the slope behind:
where $f$ is smooth it falls like $h$ and its own extrapolation $\kappa_j$ like $h^3$, so what is
left of $\kappa_j$ is a kink, or rounding, and bounds the error of $B_j$ from above:

$$e_j = |B_j - A_j| + \frac{1}{h_j} \max_{i \ge j} h_i \max(|\kappa_i|, |B_i - B_{i-1}|)
  + \frac{2 \delta}{h_j}$$

with $\delta$ the rounding of $f$. The step with the least $e_j$ is the one believed, unless a
smaller step contradicts it.
"""

from typing import NamedTuple

import numpy as np

RIGHT, INCONCLUSIVE, SINGULAR, WRONG = range(4)
VERDICTS = ("right", "inconclusive", "not differentiable here", "wrong")

# A slope is trusted within this many times its estimated error.
_MARGIN = 3.0
# Ratios of neighbouring values at the smallest steps: see `_is_singular`.
_LAST = 5


class Differences(NamedTuple):
    """Values of several channels on a ladder of steps.

    Attributes:
      steps: The steps, from the largest to the smallest.
      ahead: $f(x + h v) - f(x)$, one row a step.
      behind: $f(x - h v) - f(x)$, likewise.
      size: How large the values are that move at all, one a channel.
      whole: How large all values are; it counts where none moves.
      groups: A number a channel, the same for the channels of one array.
      epsilon: Their relative rounding.
    """

    steps: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray
    size: np.ndarray
    whole: np.ndarray
    groups: np.ndarray
    epsilon: float

    @property
    def rounding(self) -> np.ndarray:
        """Absolute rounding of the differences, one row a step.

        In double precision they are exact relative to themselves (`differencing`), or so noisy
        that it shows; but where nothing moves, rounding may have swallowed the move. What is run
        at a lower precision is rounded at its own size.
        """
        size = self.epsilon * np.where(self.size > 0, self.size, self.whole)
        reach = np.maximum(np.abs(self.ahead), np.abs(self.behind))
        own = np.finfo(np.float64).eps * reach
        return np.where((reach == 0) | (self.epsilon > 1e-12), np.maximum(size, own), own)

    def combined(self, mixture: np.ndarray) -> "Differences":
        """Return weighted sums of the channels, one a column of the mixture."""

        def root(size: np.ndarray) -> np.ndarray:
            terms = size[:, None] * np.abs(mixture)
            largest = np.maximum(np.max(terms, axis=0, initial=0.0), 1e-300)
            return largest * np.sqrt(np.sum((terms / largest) ** 2, axis=0))

        return self._replace(
            ahead=self.ahead @ mixture,
            behind=self.behind @ mixture,
            size=root(self.size),
            whole=root(self.whole),
            groups=self.groups[: mixture.shape[1]],
        )


class Slope(NamedTuple):
    """A derivative by finite differences, one entry a channel.

    Attributes:
      value: The extrapolated derivative.
      error: Its estimated error.
      step: The step at which it was found.
    """

    value: np.ndarray
    error: np.ndarray
    step: np.ndarray


class Judgement(NamedTuple):
    """A derivative beside a slope, one entry a channel.

    Attributes:
      verdict: One of `RIGHT`, `INCONCLUSIVE`, `SINGULAR`, `WRONG`.
      error: Distance beyond the slope's own uncertainty, relative to the larger of the two.
      uncertainty: That uncertainty, likewise relative.
    """

    verdict: np.ndarray
    error: np.ndarray
    uncertainty: np.ndarray


def extrapolate(given: Differences) -> Slope:
    """Extrapolate the slope at step zero; an error of infinity where nothing is finite."""
    steps = given.steps[:, None]
    with np.errstate(all="ignore"):
        slopes = (given.ahead - given.behind) / (2 * steps)
        jumps = (given.ahead + given.behind) / steps
        ratio = steps[:-1] / steps[1:]
        values = slopes[1:] + (slopes[1:] - slopes[:-1]) / (ratio**2 - 1)
        kinks = jumps[1:] - (jumps[:-1] - jumps[1:]) / (ratio - 1)
        wobble = np.abs(values[1:] - values[:-1])  # what rounding does alike on both sides
        noise = np.abs(kinks)
        noise[1:] = np.maximum(noise[1:], wobble)
        noise = noise * steps[1:]
        # From the smallest step up: what is seen there is present at the larger ones too.
        noise = np.maximum.accumulate(np.where(np.isnan(noise), np.inf, noise)[::-1])[::-1]
        errors = np.abs(values - slopes[1:]) + (noise + 2 * given.rounding[1:]) / steps[1:]
        errors = np.where(np.isfinite(values) & np.isfinite(errors), errors, np.inf)
        if len(steps) > 2 * _LAST:
            errors[-3:] = np.inf  # too few smaller steps to know the noise by
        # A slope at a large step that a smaller step contradicts beyond its own error is none: of
        # a sine all differences tend to zero there.
        apart = np.abs(values[:, None] - values[None]) - _MARGIN * errors[None]
        apart = np.where(np.isfinite(apart), apart, 0.0)
        smaller = np.arange(len(values))[:, None] < np.arange(len(values))
        errors = np.maximum(errors, np.max(apart, axis=1, where=smaller[..., None], initial=0.0))
        # And down, for what is no larger than rounding and does not fall with the step as
        # truncation does: an intermediate value that stands still below some step looks sharp.
        erratic = np.where(wobble[1:] > 0.5 * wobble[:-1], wobble[1:] * steps[3:], 0.0)
        erratic = np.where(erratic <= 1e-13 * given.whole, erratic, 0.0)
        errors[2:] = np.maximum(errors[2:], np.maximum.accumulate(erratic) / steps[3:])
    best = np.argmin(errors, axis=0)
    pick = lambda table: np.take_along_axis(table, best[None], axis=0)[0]
    return Slope(pick(values), pick(errors), given.steps[1:][best])


def judge(
    derivative: np.ndarray,
    slope: Slope,
    given: Differences,
    *,
    tolerance: float,
    resolution: float,
    thorough: bool,
) -> Judgement:
    r"""Compare derivatives with slopes, relative to themselves.

    $\tau$ is the `tolerance`, the rounding allowed to a derivative, and $\rho$ the `resolution`:
    where the slope is known no better, nothing is concluded. Only a `thorough` ladder is long
    enough to tell a kink or a jump.

    $$|D - B| \le 3 e + \tau \max(|D|, |B|) \quad\text{and}\quad 3 e \le \rho \max(|D|, |B|)$$
    """
    with np.errstate(all="ignore"):
        larger = np.maximum(np.abs(derivative), np.abs(slope.value))
        blur = _MARGIN * slope.error
        distance = np.abs(derivative - slope.value)
        distance = np.where(np.isnan(distance), np.inf, distance)
        excess = np.maximum(distance - blur, 0.0)
        agree = (excess <= tolerance * larger) & np.isfinite(derivative)
        resolved = blur <= resolution * larger
        # By both a move of the leaf's own size changes no more than the last digits of the value.
        absent = (distance <= blur) & (blur <= 1e-9 * given.whole)
        absent &= np.abs(derivative) <= 1e-12 * given.whole
        error = np.where(excess > 0, excess / larger, 0.0)
        error = np.where(np.isnan(error), np.inf, error)
        uncertainty = np.where(larger > 0, blur / larger, 0.0)
    right = agree & (resolved | absent)
    verdict = np.where(right, RIGHT, INCONCLUSIVE)
    verdict = np.where(~agree & np.isfinite(blur), WRONG, verdict)
    if thorough:
        diverges, kinked = _is_singular(given)
        verdict = np.where(kinked | diverges, SINGULAR, verdict)
        # What is lost in the rounding of its neighbours has nothing to say: right if noise hides
        # it, and below 1e-12 even if it looks sharp, for rounding inside the program is so too.
        known = np.where(resolved & np.isfinite(larger), larger, 0.0)
        largest = np.zeros(given.groups.max(initial=-1) + 1)
        np.maximum.at(largest, given.groups, known)
        reach, among = np.maximum(larger, blur), largest[given.groups]
        share = np.where(verdict == WRONG, 1e-12, 1e-8)
        negligible = reach < share * among
        verdict = np.where(negligible, RIGHT, verdict)
    return Judgement(verdict, error, uncertainty)


def _is_singular(given: Differences) -> tuple[np.ndarray, np.ndarray]:
    """Tell, from the smallest steps above rounding, where slopes diverge and where they differ.

    Over five steps a slope that diverges (a jump, a root at zero, the end of the domain) grows by
    about the same factor each time; the difference of the slopes ahead and behind stays the same
    at a kink. Rounding does neither, and where the function is smooth one is 1 and the other falls.
    """
    steps, count = given.steps[:, None], given.size.size
    diverges, kinked = np.zeros(count, bool), np.zeros(count, bool)
    whole = given.epsilon * np.where(given.size > 0, given.size, given.whole)
    with np.errstate(all="ignore"):
        reach = np.maximum(np.abs(given.ahead), np.abs(given.behind))
        jump = np.abs(given.ahead + given.behind)
        diverges |= ~np.isfinite(reach[-_LAST:]).any(axis=0)
        # Relative to the value: below that, noise may look regular by chance. The last three
        # steps are there to show it, and a kink among them counts as one at the point.
        floor = 100 * np.maximum(given.rounding, whole)
        for end in (len(steps), len(steps) - 3):
            for c in np.flatnonzero(~diverges & ~kinked):
                usable = _smallest(reach[:end, c], floor[:end, c])
                if usable.size:
                    growth = reach[usable, c] / steps[usable, 0]
                    growth = growth[1:] / growth[:-1]
                    diverges[c] = growth.min() > 1.01 and growth.max() < 1.15 * growth.min()
                usable = _smallest(jump[:end, c], floor[:end, c])
                if usable.size:
                    apart = jump[usable, c] / steps[usable, 0]
                    share = jump[usable, c] / reach[usable, c]
                    apart = apart[1:] / apart[:-1]
                    kinked[c] = apart.min() > 0.8 and apart.max() < 1.25 and share.min() > 1e-6
    return diverges, kinked


def _smallest(values: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Return the last five steps at which values stand out, if they sink into rounding there.

    None where the next one should still stand out by the trend of the last, and does not: the
    singularity lies between the two, and the point itself on smooth ground.
    """
    usable = np.flatnonzero(np.isfinite(values) & (values > floor))[-_LAST:]
    if usable.size < _LAST:
        return usable[:0]
    last = usable[-1]
    expected = values[last] * values[last] / values[usable[-2]]
    inside = last + 1 < values.size and expected > 10 * floor[last + 1]
    return usable[:0] if inside else usable
