"""Moments and fractions against NumPy, histograms against the sample they are of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.diagnostics.summaries import SAMPLE_SIZE, sample_indices, summarize, summarize_all


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_moments_and_fractions_are_numpys(dtype):
    values = jax.random.normal(jax.random.key(0), (40, 300)).astype(dtype)
    values = jnp.where(values > 1, 0, values)
    summary = summarize(values)
    exact = np.asarray(values).astype(np.float64)
    # A mean of n values in precision eps errs by at most eps * log2(n) of their size.
    eps = float(jnp.finfo(summary.mean.dtype).eps) * 16
    np.testing.assert_allclose(summary.mean, exact.mean(), atol=eps)
    np.testing.assert_allclose(summary.variance, exact.var(), rtol=2 * eps)
    np.testing.assert_allclose(summary.fraction_zero, (exact == 0).mean(), rtol=eps)
    assert summary.mean.dtype == ("float64" if dtype == "float64" else "float32")


@pytest.mark.slow
def test_the_histogram_counts_the_sample():
    values = jax.random.normal(jax.random.key(1), (100, 100))
    sample = np.asarray(values).ravel()[sample_indices(values.size)]
    counts, edges = summarize(values).histogram
    assert counts.sum() == SAMPLE_SIZE
    expected, _ = np.histogram(sample, np.asarray(edges))
    # A value on an edge may be rounded into the bin beside it.
    assert np.abs(np.asarray(counts) - expected).sum() <= 4
    np.testing.assert_allclose(edges[jnp.array([0, -1])], [sample.min(), sample.max()], rtol=3e-7)


def test_quantiles_are_those_of_the_normal_distribution():
    summary = summarize(jax.random.normal(jax.random.key(2), (200, 200)))
    width = float(summary.histogram.edges[1] - summary.histogram.edges[0])
    # Four standard errors of a sample quantile, sqrt(q (1 - q) / n) / density, and a bin.
    assert abs(float(summary.quantile(0.5))) < width + 4 * 0.5 / 64 / 0.399
    assert abs(float(summary.quantile(0.8413)) - 1) < width + 4 * 0.365 / 64 / 0.242


@pytest.mark.slow
def test_steps_are_kept_apart():
    scales = jnp.array([1.0, 2.0, 3.0])[:, None, None]
    values = scales * jax.random.normal(jax.random.key(3), (3, 7, 5))
    together = jax.jit(summarize, static_argnums=1)(values, 1)
    for k in range(3):
        alone = jax.jit(summarize)(values[k])
        # Sums of 35 values in another order.
        jax.tree.map(
            lambda a, b, k=k: np.testing.assert_allclose(a[k], b, rtol=1e-5, atol=1e-6),
            together,
            alone,
        )


@pytest.mark.slow
def test_many_are_summarised_as_each_alone():
    arrays = [jnp.arange(5.0), jnp.ones((2, 6000)), jnp.zeros((3, 4))]
    steps = [0, 1, 0]
    for one, alone in zip(
        jax.jit(lambda arrays: summarize_all(list(zip(arrays, steps, strict=True))))(arrays),
        map(jax.jit(summarize, static_argnums=1), arrays, steps),
        strict=True,
    ):
        jax.tree.map(np.testing.assert_array_equal, one, alone)


def test_what_is_not_finite_is_counted_and_kept_out_of_the_histogram():
    summary = summarize(jnp.array([1.0, jnp.nan, jnp.inf, 2.0]))
    assert summary.fraction_nonfinite == 0.5
    assert summary.histogram.counts.sum() == 2
    assert (summary.histogram.edges[0], summary.histogram.edges[-1]) == (1.0, 2.0)


@pytest.mark.parametrize("size", [1, 4096, 4097, 10_007, 1_000_000])
def test_the_sample_is_distinct_and_inside(size):
    indices = sample_indices(size)
    assert len(set(indices.tolist())) == min(size, SAMPLE_SIZE)
    assert indices.min() >= 0
    assert indices.max() < size


def test_a_quantile_outside_of_its_range_is_refused():
    with pytest.raises(ValueError, match=r"Summary.quantile needs 0 <= q <= 1, got q=1.5\."):
        summarize(jnp.ones(3)).quantile(1.5)


@pytest.mark.parametrize("size", [7, 1000, 100_003])
def test_zeros_are_counted_exactly(size):
    values = jax.random.normal(jax.random.key(0), (size,))
    assert float(summarize(values).fraction_zero) == 0.0
    assert float(summarize(values.at[3].set(0)).fraction_zero) == float(jnp.float32(1 / size))
