"""Move one leaf at a time along random directions, and judge the derivatives beside the slopes.

The directions have the leaf's own scale, the programs run in double precision (`widening`), and
the steps are chosen by `extrapolation`: four in a row suffice where the function is smooth at
the scale of the leaf; else a ladder from 4096 times that scale down to $2^{-50}$ of it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxopt_tut.autodiff import extrapolation
from jaxopt_tut.autodiff.extrapolation import Differences, Judgement, Slope
from jaxopt_tut.autodiff.widening import Widened, is_inexact, widened

_FIRST_STEPS = 2.0 ** np.arange(-12, -25, -4)
_ALL_STEPS = 2.0 ** np.arange(12, -51, -2)
_CHANNELS = 16

Direction = np.ndarray | np.inexact
"""An array like its leaf; for a leaf without axes NumPy's scalar."""


class Programs(NamedTuple):
    """A function of flat arrays and its derivatives, all in double precision.

    Attributes:
      value: `value(leaves) -> outputs`.
      change: `change(leaves, k, move) -> changes` of the floating outputs when leaf `k` moves.
      derivatives: `"forward"`: `(leaves, k, direction) -> output tangents`; `"reverse"`:
        `(leaves, weights) -> one cotangent a leaf`, None where a leaf has none.
      own_epsilon: The rounding at which the function is used.
      widened: What tells the rounding of `value`, then of the derivatives.
    """

    value: Callable
    change: Callable
    derivatives: dict[str, Callable]
    own_epsilon: float
    widened: Sequence[Widened]

    @property
    def epsilon(self) -> float:
        """Relative rounding of the values."""
        return self.widened[0].epsilon

    @property
    def tolerance(self) -> float:
        """Relative rounding allowed to a derivative: half its digits, 1e-6 to two per cent.

        The constants of a rule are rounded at the function's own precision, and terms cancel.
        """
        left = max(program.epsilon for program in self.widened)
        return max(min(self.own_epsilon**0.5, 0.02), 1e-6, left**0.5 if left > 1e-12 else 0.0)

    @property
    def resolution(self) -> float:
        """How well a slope must be known: to one per cent in float64, else to five."""
        return max(0.01 if self.own_epsilon < 1e-12 else 0.05, 3 * self.tolerance)


class Finding(NamedTuple):
    """What one derivative of one leaf looks like, in its worst channel.

    Attributes:
      verdict: A number of `extrapolation`.
      error: Distance from the slope beyond its own uncertainty, relative to the larger of the two.
      uncertainty: That uncertainty, likewise relative.
      step: The step that the slope was taken at, in units of the direction.
      slope: Exponent of the Taylor remainder.
      mode: `"forward"` or `"reverse"`.
      direction: What was added to the leaf, times the step.
    """

    verdict: int
    error: float
    uncertainty: float
    step: float
    slope: float
    mode: str
    direction: Direction


class Channels:
    """Outputs, as few real numbers: small arrays whole, large ones in sixteen random sums.

    Outputs that are not finite at the start are left out.
    """

    def __init__(self, outputs: Sequence[Any], rng: np.random.Generator):
        """Draw the sums for outputs like these."""
        self.base = _flat(outputs)
        self.finite = np.isfinite(self.base)
        places, signs, groups, used = [], [], [], 0
        for group, output in enumerate(outputs):
            if is_inexact(output) and output.size:
                count = _flat([output]).size
                width = min(count, _CHANNELS)
                places.append(used + np.arange(count) % width)
                drawn = rng.choice([-1.0, 1.0], count) * rng.uniform(0.5, 1.5, count)
                signs.append(np.ones(count) if count == width else drawn)
                groups += [group] * width
                used += width
        self.count = used
        self.groups = np.asarray(groups, int)
        self.places = np.concatenate([*places, np.zeros(0, int)])
        self.signs = np.where(self.finite, np.concatenate([*signs, np.zeros(0)]), 0.0)

    def sum(self, flat: np.ndarray) -> np.ndarray:
        """Add up what belongs to each channel."""
        terms = np.where(self.finite, flat, 0.0) * self.signs
        return np.bincount(self.places, terms, self.count)

    def size(self, moved: np.ndarray) -> np.ndarray:
        """Root of the summed squares of the values that move, one a channel."""
        values = np.where((moved != 0) & self.finite, self.base, 0.0) * self.signs
        largest = np.max(np.abs(values), initial=0.0) or 1.0
        return largest * np.sqrt(np.bincount(self.places, (values / largest) ** 2, self.count))

    def weights(self, outputs: Sequence[Any], factors: np.ndarray) -> list[np.ndarray]:
        """Spread one factor a channel over arrays like the outputs, as cotangents."""
        flat, start, spread = factors[self.places] * self.signs, 0, []
        for output in outputs:
            if not is_inexact(output):
                continue
            count = output.size
            real = flat[start : start + count].reshape(output.shape)
            start += count
            if np.iscomplexobj(output):  # JAX pairs without conjugation
                imaginary = flat[start : start + count].reshape(output.shape)
                start += count
                real = real - 1j * imaginary
            spread.append(real)
        return spread


def probe(
    programs: Programs,
    leaves: list[Any],
    k: int,
    channels: Channels,
    outputs: Sequence[Any],
    rng: np.random.Generator,
) -> list[Finding]:
    """Judge every derivative of one leaf, along one or two directions."""
    found = []
    for direction in directions(leaves[k], rng):
        ladder = _Ladder(programs, leaves, k, direction, channels)
        signs = rng.choice([-1.0, 1.0], channels.count) * rng.uniform(0.5, 1.5, channels.count)
        for mode in programs.derivatives:
            found.append(_examine(ladder, mode, outputs, signs))
    return found


def directions(leaf: Any, rng: np.random.Generator) -> list[Direction]:
    """Draw directions of a leaf's scale: in proportion to each entry, and all entries alike.

    Entries have few binary digits, so that `leaf + step * direction` rounds nothing away.
    """
    leaf = np.asarray(leaf)
    size = np.where(np.isfinite(leaf), np.abs(leaf), 0.0)
    largest = np.max(size, initial=0.0)
    typical = largest * np.sqrt(np.mean((size / largest) ** 2)) if largest > 0 else 1.0
    drawn = _few_digits(leaf, rng) * np.isfinite(leaf)
    alike = drawn * _power_of_two(np.asarray(typical))
    if np.all(size == size.flat[0]):
        return [alike]
    return [_few_digits(leaf, rng) * _power_of_two(np.where(size > 0, size, typical)), alike]


def _few_digits(leaf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    draw = lambda: rng.choice([-1.0, 1.0], leaf.shape) * rng.integers(4, 13, leaf.shape) / 8
    return draw() + 1j * draw() if np.iscomplexobj(leaf) else np.asarray(draw())


def _power_of_two(size: np.ndarray) -> np.ndarray | np.float64:
    return np.ldexp(1.0, np.frexp(size)[1] - 1)


class _Ladder:
    """Differences of a function's channels along one direction of one leaf."""

    def __init__(
        self, programs: Programs, leaves: list, k: int, direction: Direction, channels: Channels
    ):
        self.programs, self.leaves, self.k = programs, leaves, k
        self.direction, self.channels = direction, channels
        self.known: dict[float, tuple[np.ndarray, np.ndarray]] = {}
        self.moved = np.zeros(channels.base.shape, bool)

    def leaves_at(self, step: float) -> list[Any]:
        with np.errstate(all="ignore"):
            here = np.asarray(self.leaves[self.k]) + step * self.direction
        return [*self.leaves[: self.k], here, *self.leaves[self.k + 1 :]]

    def differences(self, steps: np.ndarray) -> Differences:
        for step in steps:
            if step not in self.known:
                self.known[step] = (self._difference(step), self._difference(-step))
        ahead, behind = (np.stack([self.known[step][i] for step in steps]) for i in (0, 1))
        size, whole = self.channels.size(self.moved), self.channels.size(np.ones(self.moved.shape))
        groups = self.channels.groups
        return Differences(steps, ahead, behind, size, whole, groups, self.programs.epsilon)

    def _difference(self, step: float) -> np.ndarray:
        with np.errstate(all="ignore"):
            change = _flat(self.programs.change(self.leaves, self.k, step * self.direction))
            self.moved |= change != 0
            return self.channels.sum(change)


def _examine(ladder: _Ladder, mode: str, outputs: Sequence[Any], signs: np.ndarray) -> Finding:
    """Judge one derivative by a few steps and, unless it is plainly right, by all of them."""
    tolerance, resolution = ladder.programs.tolerance, ladder.programs.resolution
    for steps, resolved in ((_FIRST_STEPS, min(resolution, 1e-6)), (_ALL_STEPS, resolution)):
        given = ladder.differences(steps)
        thorough = len(steps) > len(_FIRST_STEPS)
        mixture = None
        if mode == "reverse":
            mixture = _apart(given, signs) if thorough else _alike(given, signs)
            given = given.combined(mixture)
        derivative = _derivative(ladder, mode, outputs, mixture)
        slope = extrapolation.extrapolate(given)
        options = {"tolerance": tolerance, "resolution": resolved, "thorough": thorough}
        result = extrapolation.judge(derivative, slope, given, **options)
        if thorough:
            result = _excuse_zeros(ladder, mode, outputs, mixture, derivative, slope, result)
        if result.verdict.max(initial=extrapolation.RIGHT) == extrapolation.RIGHT:
            break
    return _worst(result, slope, given, derivative, mode, ladder.direction)


def _alike(given: Differences, signs: np.ndarray) -> np.ndarray:
    """Return weights for one sum of all channels, to which each contributes alike.

    A cotangent gives one number; the sum spares a pass for every channel.
    """
    if signs.size < 2:
        return np.ones((signs.size, signs.size))
    slope = extrapolation.extrapolate(given)
    size = np.where(given.size > 0, np.maximum(np.abs(slope.value), 1e4 * slope.error), 0.0)
    known = np.isfinite(size) & (size > 0)
    largest = np.zeros(given.groups.max() + 1)
    np.maximum.at(largest, given.groups[known], size[known])
    # What is below 1e-9 of its neighbours may be their rounding, and is not blown up.
    size = np.maximum(size, 1e-9 * largest[given.groups])
    size = np.where(size > 0, size, np.max(largest) or 1.0)
    return np.where(np.isfinite(size), signs / size, 0.0)[:, None]


def _apart(given: Differences, signs: np.ndarray) -> np.ndarray:
    """Return weights that keep the channels apart, or beyond 64 of them in 64 sums."""
    count = signs.size
    mixture = np.zeros((count, min(count, 64)))
    factors = np.ones(count) if count <= 64 else _alike(given, signs)[:, 0]
    mixture[np.arange(count), np.arange(count) % 64] = factors
    return mixture


def _derivative(
    ladder: _Ladder,
    mode: str,
    outputs: Sequence[Any],
    mixture: np.ndarray | None,
    step: float = 0.0,
) -> np.ndarray:
    """Return the derivative along the direction, of each channel or of each mixture of them."""
    push_or_pull = ladder.programs.derivatives[mode]
    leaves = ladder.leaves_at(step) if step else ladder.leaves
    with np.errstate(all="ignore"):
        if mixture is None:
            pushed = push_or_pull(leaves, ladder.k, ladder.direction)
            return ladder.channels.sum(_flat(pushed))
        found = []
        for factors in mixture.T:
            weights = ladder.channels.weights(outputs, factors)
            pulled = np.asarray(push_or_pull(leaves, weights)[ladder.k])
            found.append(np.sum(np.real(pulled * ladder.direction)))
        return np.array(found)


def _excuse_zeros(
    ladder: _Ladder,
    mode: str,
    outputs: Sequence[Any],
    mixture: np.ndarray | None,
    derivative: np.ndarray,
    slope: Slope,
    result: Judgement,
) -> Judgement:
    """Excuse a derivative for its own rounding, which a move by 1e-13 of the leaf shows.

    Where that explains the distance the derivative is not wrong; where the slope is no larger, or
    no clearer, both are zero up to rounding (terms that cancel), and right.
    """
    doubtful = (result.verdict == extrapolation.WRONG) | (
        result.verdict == extrapolation.INCONCLUSIVE
    )
    if not doubtful.any():
        return result
    change = np.zeros_like(derivative)
    with np.errstate(all="ignore"):
        for step in 2.0 ** np.arange(-41.0, -45.0, -1.0):
            nearby = _derivative(ladder, mode, outputs, mixture, step)
            change = np.maximum(change, np.abs(nearby - derivative))
        noisy = doubtful & (change >= 0.1 * np.abs(derivative - slope.value)) & (change > 0)
        small = np.maximum(10 * change, 3 * slope.error)
        zero = noisy & (np.maximum(np.abs(derivative), np.abs(slope.value)) <= small)
    verdict = np.where(noisy, extrapolation.INCONCLUSIVE, result.verdict)
    verdict = np.where(zero, extrapolation.RIGHT, verdict)
    return result._replace(verdict=verdict, error=np.where(noisy, 0.0, result.error))


def _worst(
    result: Judgement,
    slope: Slope,
    given: Differences,
    derivative: np.ndarray,
    mode: str,
    direction: Direction,
) -> Finding:
    if result.verdict.size == 0:
        nothing = (extrapolation.RIGHT, 0.0, 0.0, float("nan"), float("nan"))
        return Finding(*nothing, mode, direction)
    c = int(np.lexsort((result.error, result.verdict))[-1])
    with np.errstate(all="ignore"):
        remainder = np.abs(given.ahead[:, c] - given.steps * derivative[c])
    clear = remainder > 1e3 * given.rounding[:, c]
    clear = np.flatnonzero(clear & np.isfinite(remainder) & (given.steps >= slope.step[c]))[-2:]
    exponent = float("nan")
    if clear.size == 2:
        i, j = clear
        exponent = float(
            np.log(remainder[i] / remainder[j]) / np.log(given.steps[i] / given.steps[j])
        )
    return Finding(
        int(result.verdict[c]),
        float(result.error[c]),
        float(result.uncertainty[c]),
        float(slope.step[c]),
        exponent,
        mode,
        direction,
    )


def _flat(outputs: Sequence[Any]) -> np.ndarray:
    """Lay floating outputs end to end, a complex one as its real and its imaginary part."""
    parts = [np.zeros(0)]
    for output in outputs:
        if output is not None and is_inexact(output):
            value = widened(np.asarray(output))
            parts.append(np.ravel(value.real))
            if np.iscomplexobj(value):
                parts.append(np.ravel(value.imag))
    return np.concatenate(parts)
