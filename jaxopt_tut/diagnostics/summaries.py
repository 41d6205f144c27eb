"""What is kept of an array: moments, exact fractions, and the histogram of a fixed sample."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SAMPLE_SIZE = 4096
NUM_BINS = 64


class Histogram(NamedTuple):
    """Counts over equal bins; of a sample where the array is larger than `SAMPLE_SIZE`.

    Attributes:
      counts: Number of sampled values in each bin; those that are not finite are left out.
      edges: The ends of the bins: the smallest and the largest sampled value, and equal steps.
    """

    counts: Float[Array, "*step bin"]
    edges: Float[Array, "*step edge"]


class Summary(NamedTuple):
    """What is known of the values at a place; inside scans with one leading axis a scan.

    Attributes:
      mean: Over all values.
      variance: Over all values, without Bessel's correction.
      fraction_zero: Of the values that are exactly zero.
      fraction_nonfinite: Of the values that are NaN or infinite.
      histogram: Of a fixed sample of 4096 values.
    """

    mean: Float[Array, "*step"]
    variance: Float[Array, "*step"]
    fraction_zero: Float[Array, "*step"]
    fraction_nonfinite: Float[Array, "*step"]
    histogram: Histogram

    def quantile(self, q: float) -> Float[Array, "*step"]:
        r"""Read a quantile from the histogram, linearly inside a bin.

        Precise to the width of a bin, and to the scatter $\sqrt{q (1 - q) / 4096}$ of the sample.

        Args:
          q: The fraction $0 \le q \le 1$ of values below it.

        Returns:
          The quantile.

        Raises:
          ValueError: If `q` is no fraction.

        Example:
          >>> summary = summarize(jnp.arange(1000.0))
          >>> abs(float(summary.quantile(0.25)) - 250) < 999 / NUM_BINS
          True
        """
        if not 0 <= q <= 1:
            raise ValueError(f"Summary.quantile needs 0 <= q <= 1, got q={q}.")
        return jnp.vectorize(_quantile, signature="(b),(e),()->()")(*self.histogram, q)


def _quantile(counts, edges, q):
    below = jnp.concatenate([jnp.zeros(1, counts.dtype), jnp.cumsum(counts)])
    return jnp.interp(q * below[-1], below, edges)


def summarize(values: Float[Array, "..."], num_step_axes: int = 0) -> Summary:
    r"""Summarise an array in one pass and a sample.

    $$\bar x = \frac1n \sum_i x_i, \quad \mathrm{Var} = \frac1n \sum_i (x_i - \bar x)^2, \quad
      n_k = \#\{j : x_{i(j)} \in \text{bin } k\}, \quad i(j) = j s \bmod n$$

    with a stride $s$ without common divisor with $n$, so that no value is taken twice and none of
    the axes is favoured. Moments and fractions are exact; half precision is summed in single.

    Args:
      values: Any floating array; for complex ones their size is summarised.
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


def summarize_all(arrays: Sequence[tuple[Array, int]]) -> list[Summary]:
    """Summarise several arrays, with one histogram operation for all: it compiles far faster.

    Args:
      arrays: Pairs of an array and the number of its leading axes to keep apart.

    Returns:
      One summary each.
    """
    prepared = []
    for values, num_step_axes in arrays:
        steps = values.shape[:num_step_axes]
        prepared.append(real(values).reshape(*steps, math.prod(values.shape[num_step_axes:])))
    rows = [_sample(values).reshape(-1, SAMPLE_SIZE) for values in prepared]
    dtype = max((row.dtype for row in rows), key=lambda dtype: jnp.finfo(dtype).bits)
    histograms = jax.vmap(_histogram)(jnp.concatenate([row.astype(dtype) for row in rows]))
    summaries, start = [], 0
    for values, row in zip(prepared, rows, strict=True):
        part = slice(start, start + len(row))
        start += len(row)
        mean = jnp.mean(values, axis=-1)
        summaries.append(
            Summary(
                mean,
                jnp.mean((values - mean[..., None]) ** 2, axis=-1),
                jnp.mean(values == 0, axis=-1, dtype=values.dtype),
                jnp.mean(~jnp.isfinite(values), axis=-1, dtype=values.dtype),
                jax.tree.map(
                    lambda leaf, part=part, mean=mean: (
                        leaf[part].reshape(*mean.shape, leaf.shape[-1]).astype(mean.dtype)
                    ),
                    histograms,
                ),
            )
        )
    return summaries


def real(values: Array) -> Float[Array, "..."]:
    """Bring values to a real dtype of at least single precision.

    Args:
      values: Floating or complex.

    Returns:
      The values, or their absolute values if they are complex.
    """
    values = jnp.abs(values) if jnp.iscomplexobj(values) else values
    is_half = jnp.finfo(values.dtype).bits < 32
    return values.astype(jnp.float32) if is_half else values


def sample_indices(size: int) -> np.ndarray:
    """Choose at most 4096 of `size` indices, spread evenly and the same each time.

    Args:
      size: How many there are.

    Returns:
      Distinct indices.

    Example:
      >>> len(set(sample_indices(10_000).tolist()))
      4096
    """
    if size <= SAMPLE_SIZE:
        return np.arange(size)
    stride = int(size * 0.6180339887)  # the golden section leaves the most even gaps
    while np.gcd(stride, size) != 1:
        stride += 1
    return np.arange(SAMPLE_SIZE) * stride % size


def _sample(values):
    """Take the sample of the last axis; NaN fills up what is smaller."""
    sample = values[..., sample_indices(values.shape[-1])]
    missing = SAMPLE_SIZE - sample.shape[-1]
    widths = [(0, 0)] * (sample.ndim - 1) + [(0, missing)]
    return jnp.pad(sample, widths, constant_values=jnp.nan)


def _histogram(sample) -> Histogram:
    is_finite = jnp.isfinite(sample)
    low = jnp.min(jnp.where(is_finite, sample, jnp.inf))
    high = jnp.max(jnp.where(is_finite, sample, -jnp.inf))
    low, high = jnp.where(low <= high, low, 0), jnp.where(low <= high, high, 0)
    width = jnp.where(high > low, high - low, 1)
    place = jnp.where(is_finite, (sample - low) / width * NUM_BINS, 0)
    bins = jnp.clip(place, 0, NUM_BINS - 1).astype(jnp.int32)
    counts = jnp.zeros(NUM_BINS, sample.dtype).at[bins].add(is_finite.astype(sample.dtype))
    steps = jnp.arange(NUM_BINS + 1, dtype=sample.dtype) / NUM_BINS
    return Histogram(counts, low + (high - low) * steps)
