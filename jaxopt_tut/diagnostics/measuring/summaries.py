"""What is kept of an array: moments, exact fractions, and the histogram of a fixed sample."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.hyperparameters import cast, require_real
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import Scalar

SAMPLE_SIZE = 4096
NUM_BINS = 64
MAX_GROUPED = 2**16

Real = TypeAliasType("Real", Float[Array | np.ndarray, "*step"])
"""A real number for each step of the scans around a layer; one alone outside of scans.

Whatever holds results holds JAX's arrays while it is traced, and NumPy's once it is judged.
"""


@shown
class Histogram(NamedTuple):
    """Counts over equal bins; of a sample where the array is larger than `SAMPLE_SIZE`.

    Attributes:
      counts: Number of sampled values in each bin; those that are not finite are left out.
      edges: The ends of the bins: the smallest and the largest sampled value, and equal steps.
    """

    counts: Float[Array, "*step bin"]
    edges: Float[Array, "*step edge"]


@shown
class Summary(NamedTuple):
    """What is known of the values at a place; inside scans with one leading axis a scan.

    Attributes:
      mean: Over all values.
      variance: Over all values, without Bessel's correction.
      fraction_zero: Of the values that are exactly zero.
      fraction_nonfinite: Of the values that are NaN or infinite.
      histogram: Of a fixed sample of 4096 values.
    """

    mean: Real
    variance: Real
    fraction_zero: Real
    fraction_nonfinite: Real
    histogram: Histogram

    @property
    def mean_square(self) -> Real | np.floating:
        """The variance and the squared mean together: the size of the values."""
        return self.variance + self.mean**2

    def quantile(self, q: float | Scalar) -> Real:
        r"""Read a quantile from the histogram, linearly inside a bin.

        Precise to the width of a bin, and to the scatter $\sqrt{q (1 - q) / 4096}$ of the sample.
        As in the histogram, what is not finite is left out.

        Args:
          q: The fraction $0 \le q \le 1$ of values below it.

        Returns:
          The quantile; NaN if no value is finite, or for an array `q` that is no fraction.

        Raises:
          ValueError: If `q` has axes, or is a number and no fraction.
          TypeError: If `q` is no real number.

        Example:
          >>> summary = summarize(jnp.arange(1000.0))
          >>> abs(float(summary.quantile(0.25)) - 250) < 999 / NUM_BINS
          True
        """
        require_real("Summary.quantile", q=q)
        if not isinstance(q, jax.Array) and not 0 <= q <= 1:
            raise ValueError(f"Summary.quantile needs 0 <= q <= 1, got q={q}.")
        q = cast(q, self.histogram.counts.dtype)
        return jnp.vectorize(_quantile, signature="(b),(e),()->()")(*self.histogram, q)


def _quantile(counts: Float[Array, "bin"], edges: Float[Array, "edge"], q: Scalar) -> Scalar:
    below = jnp.concatenate([jnp.zeros(1, counts.dtype), jnp.cumsum(counts)])
    is_known = (below[-1] > 0) & (q >= 0) & (q <= 1)
    return jnp.where(is_known, jnp.interp(q * below[-1], below, edges), jnp.nan)


def summarize(values: Shaped[Array, "..."], num_step_axes: int = 0) -> Summary:
    r"""Summarise an array in one pass and a sample.

    $$\bar x = \frac1n \sum_i x_i, \quad \mathrm{Var} = \frac1n \sum_i (x_i - \bar x)^2, \quad
      n_k = \#\{j : x_{i(j)} \in \text{bin } k\}, \quad i(j) = j s \bmod n$$

    with a stride $s$ without common divisor with $n$, so that no value is taken twice and none of
    the axes is favoured. Moments and fractions are exact; half precision, integers and booleans are
    summed in single precision, and a mean does not overflow where its values don't. Of no values
    at all everything is NaN but the counts.

    Args:
      values: Any array of numbers; for complex ones their size is summarised.
      num_step_axes: How many leading axes to keep apart.

    Returns:
      The summary.

    Example:
      >>> summary = summarize(jnp.array([0.0, 0.0, 3.0, 5.0]))
      >>> float(summary.mean), float(summary.variance), float(summary.fraction_zero)
      (2.0, 4.5, 0.5)
      >>> int(summary.histogram.counts.sum())
      4
    """
    return summarize_all([(values, num_step_axes)])[0]


class Rows(NamedTuple):
    """Where the summaries of an array lie in a stack: its first row, its steps, its dtype."""

    start: int
    steps: tuple[int, ...]
    dtype: Any

    @property
    def stop(self) -> int:
        """The first row behind them."""
        return self.start + math.prod(self.steps)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SummaryStack:
    """Summaries of many arrays in few: a leading axis runs through the steps of all of them.

    Attributes:
      rows: One row for each step of each distinct array.
      places: Where each array in turn is found; part of the structure.
    """

    rows: Summary
    places: tuple[Rows, ...] = field(metadata={"static": True})

    def __getitem__(self, k: int) -> Summary:
        """Return the summary of an array."""
        place = self.places[k]
        return self._cut(slice(place.start, place.stop), place.steps, place.dtype)

    def spread(self, k: int, steps: tuple[int, ...]) -> Summary:
        """Return the summary of an array, the same at each step if it has none of its own."""
        place = self.places[k]
        if place.steps == steps:
            return self[k]
        return self._cut(np.full(math.prod(steps), place.start), steps, place.dtype)

    def find_rows(self, k: int) -> Int[np.ndarray, "row"]:
        """Return the rows of an array."""
        return np.arange(self.places[k].start, self.places[k].stop)

    def _cut(self, rows: slice | np.ndarray, steps: tuple[int, ...], dtype: Any) -> Summary:
        return jax.tree.map(
            lambda leaf: leaf[rows].reshape((*steps, *leaf.shape[1:])).astype(dtype), self.rows
        )


def summarize_all(arrays: Sequence[tuple[Array, int]]) -> SummaryStack:
    """Summarise several arrays, those of equal size together: that compiles and runs far faster."""
    # The same array may come again, as the activation of one layer and the input of the next.
    distinct = {(id(values), num_step_axes): values for values, num_step_axes in arrays}
    groups: dict[tuple, list] = {}
    for tag, values in distinct.items():
        steps = values.shape[: tag[1]]
        rows = real(values).reshape(math.prod(steps), math.prod(values.shape[tag[1] :]))
        size = rows.shape[1]
        # To lie side by side arrays are copied: large ones stay where they are.
        alone = tag if rows.size > MAX_GROUPED else None
        groups.setdefault((size, rows.dtype, alone), []).append((tag, steps, rows))
    places, parts, start = {}, [], 0
    for (_, dtype, _), members in groups.items():
        parts.append(_summarize_rows(jnp.concatenate([rows for _, _, rows in members])))
        for tag, steps, rows in members:
            places[tag] = Rows(start, steps, dtype)
            start += len(rows)
    # One dtype for all; each array gets its own back when it is cut out.
    widest = max((dtype for _, dtype, _ in groups), key=lambda dtype: jnp.finfo(dtype).bits)
    mean, variance, zero, nonfinite, samples = (
        jnp.concatenate([part.astype(widest) for part in column])
        for column in zip(*parts, strict=True)
    )
    rows = Summary(mean, variance, zero, nonfinite, _histograms(samples))
    return SummaryStack(rows, tuple(places[id(values), num] for values, num in arrays))


def _summarize_rows(values: Float[Array, "row value"]) -> tuple[Array, ...]:
    """Return mean, variance, both fractions and the sample of each row."""
    dtype, size = values.dtype, values.shape[1]
    mean = jnp.mean(values, axis=1)
    # What is not finite makes the mean so: only then is there something to count. Where all is
    # finite, signs are summed faster than comparisons, and as exactly. A sum may also overflow
    # although all is finite: divided first, it does not.
    mean, zero, nonfinite = lax.cond(
        jnp.all(jnp.isfinite(mean)),
        lambda values: (
            mean,
            jnp.mean(1 - jnp.abs(jnp.sign(values)), axis=1),
            jnp.zeros_like(mean),
        ),
        lambda values: (
            jnp.where(jnp.isfinite(mean), mean, jnp.mean(values / max(size, 1), axis=1) * size),
            jnp.mean(values == 0, axis=1, dtype=dtype),
            jnp.mean(~jnp.isfinite(values), axis=1, dtype=dtype),
        ),
        values,
    )
    variance = jnp.mean((values - mean[:, None]) ** 2, axis=1)
    return mean, variance, zero, nonfinite, _sample(values)


def real(values: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Bring values to a real dtype of at least single precision."""
    values = jnp.abs(values) if jnp.iscomplexobj(values) else values
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(jnp.result_type(float))
    return at_least_single(values)


def sample_indices(size: int) -> Int[np.ndarray, "sample"]:
    """Choose at most 4096 distinct ones of `size` indices, spread evenly, the same each time."""
    if size <= SAMPLE_SIZE:
        return np.arange(size)
    stride = int(size * 0.6180339887)  # the golden section leaves the most even gaps
    while np.gcd(stride, size) != 1:
        stride += 1
    return np.arange(SAMPLE_SIZE) * stride % size


def _sample(values: Float[Array, "row value"]) -> Float[Array, "row sample"]:
    """Take the sample of each row; NaN fills up what is smaller."""
    size = values.shape[1]
    if size > SAMPLE_SIZE:
        # Distinct indices inside the row need no checks, which would cost as much as the reading.
        return values.at[:, sample_indices(size)].get(mode="promise_in_bounds", unique_indices=True)
    return jnp.pad(values, ((0, 0), (0, SAMPLE_SIZE - size)), constant_values=jnp.nan)


def _histograms(samples: Float[Array, "row sample"]) -> Histogram:
    is_finite = jnp.isfinite(samples)
    low = jnp.min(jnp.where(is_finite, samples, jnp.inf), axis=1, keepdims=True)
    high = jnp.max(jnp.where(is_finite, samples, -jnp.inf), axis=1, keepdims=True)
    low, high = jnp.where(low <= high, low, 0), jnp.where(low <= high, high, 0)
    # From the lowest number to the highest is further than any number, and the inverse of such a
    # width is rounded to 0: those are scaled.
    part = jnp.where(high - low < 2.0**120, 1, 2.0**-32).astype(samples.dtype)
    width = part * high - part * low
    distance = (part * samples - part * low) / jnp.where(width > 0, width, 1)
    place = jnp.where(is_finite, distance * NUM_BINS, 0)
    bins = jnp.clip(place, 0, NUM_BINS - 1).astype(jnp.int32)
    # One scatter into a flat array, inside it by the clip.
    bins += NUM_BINS * jnp.arange(len(samples), dtype=jnp.int32)[:, None]
    counts = jnp.zeros(NUM_BINS * len(samples), samples.dtype)
    counts = counts.at[bins.reshape(-1)].add(
        is_finite.reshape(-1).astype(samples.dtype), mode="promise_in_bounds"
    )
    steps = jnp.arange(NUM_BINS + 1, dtype=samples.dtype) / NUM_BINS
    half = width * steps / (2 * part)
    return Histogram(counts.reshape(-1, NUM_BINS), low + half + half)
