"""Moments and fractions against NumPy, histograms against the sample they are of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.diagnostics.measuring.summaries import (
    SAMPLE_SIZE,
    sample_indices,
    summarize,
    summarize_all,
)


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


BIG = float(np.finfo(np.float32).max)
ODD = {
    "empty": np.zeros((0,), np.float32),
    "empty rows": np.zeros((3, 0), np.float32),
    "all NaN": np.full((7,), np.nan, np.float32),
    "part NaN": np.array([np.nan, 1.0, 2.0, 0.0, 5.0], np.float32),
    "all inf": np.array([np.inf, np.inf], np.float32),
    "both infs": np.array([np.inf, 3.0, -np.inf, 0.0], np.float32),
    "one": np.array(2.5, np.float32),
    "one zero": np.array([-0.0], np.float32),
    "constant": np.full((5000,), 0.1, np.float32),
    "smallest": np.array([2e-36, 3e-36, 0.0], np.float32),
    "largest": np.array([BIG, BIG, BIG], np.float32),
    "largest and lowest": np.array([BIG, -BIG, BIG, 0.0], np.float32),
    "large bfloat16": np.full((300,), 3e38).astype(jnp.bfloat16),
    "many bfloat16": np.full((60_000,), 0.9).astype(jnp.bfloat16),
    "large float16": np.array([65504.0, 65504.0, 0.0], np.float16),
    "integers": np.arange(-3, 4, dtype=np.int32),
    "uint8": np.full((100_000,), 255, np.uint8),
    "int8": np.full((1000,), -128, np.int8),
    "booleans": np.array([True, False, True, True]),
    "complex": np.array([3 + 4j, 0], np.complex64),
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_every_statistic_of_odd_arrays_is_numpys(values):
    summary = summarize(jnp.asarray(values))
    exact = np.abs(values) if np.iscomplexobj(values) else values
    exact = exact.astype(np.float64).ravel()
    finite = exact[np.isfinite(exact)]
    with np.errstate(all="ignore"):
        mean = exact.sum() / np.float64(exact.size)
        variance = ((exact - mean) ** 2).sum() / np.float64(exact.size)
        expected = [
            mean,
            variance if variance <= BIG else np.float64(np.float32(variance)),
            np.float64((exact == 0).sum()) / exact.size,
            np.float64((~np.isfinite(exact)).sum()) / exact.size,
        ]
    # Means of up to 1e5 equal values in single precision, summed pairwise: log2(1e5) roundings.
    # The variance of a constant is that rounding, squared, which may be beyond all numbers: then
    # anything may be.
    eps = 17 * float(np.finfo(np.float32).eps)
    scale = np.abs(finite).max(initial=0)
    slacks = (eps * scale, (eps * scale) ** 2 + 1e-45, 0, 0)
    for found, right, atol in zip(summary[:4], expected, slacks, strict=True):
        if atol < BIG:
            np.testing.assert_allclose(found, right, rtol=eps, atol=atol)
    counts, edges = summary.histogram
    assert counts.sum() == min(finite.size, SAMPLE_SIZE)
    assert np.isfinite(edges).all()
    assert (np.diff(edges) >= 0).all()
    for q in (0.0, 0.5, 1.0):
        found = float(summary.quantile(q))
        if not finite.size:
            assert np.isnan(found)
            continue
        # Between the neighbours in the sorted sample, and a bin.
        low, high = (np.quantile(finite, q, method=m) for m in ("lower", "higher"))
        slack = (finite.max() - finite.min()) / 64 + eps * scale
        assert low - slack <= found <= high + slack


def test_one_odd_row_leaves_the_others_alone():
    rows = jnp.stack([jnp.full(4, jnp.nan), jnp.arange(4.0), jnp.full(4, BIG)])
    summary = summarize(rows, 1)
    np.testing.assert_array_equal(summary.mean, np.float32([np.nan, 1.5, BIG]))
    np.testing.assert_array_equal(summary.fraction_zero, [0, 0.25, 0])
    np.testing.assert_array_equal(summary.fraction_nonfinite, [1, 0, 0])
    np.testing.assert_array_equal(np.isnan(summary.quantile(0.5)), [True, False, False])


def test_a_few_zeros_among_many_are_counted():
    # In single precision 3e7 - 1 is 3e7: what is counted is what is rare.
    values = jnp.ones(30_000_000, jnp.float32).at[5].set(0)
    np.testing.assert_allclose(summarize(values).fraction_zero, 1 / 30_000_000, rtol=1e-6)


def test_a_quantile_outside_of_its_range_is_refused():
    with pytest.raises(ValueError, match=r"Summary.quantile needs 0 <= q <= 1, got q=1.5\."):
        summarize(jnp.ones(3)).quantile(1.5)


@pytest.mark.parametrize("q", ["0.5", True, None])
def test_a_quantile_of_what_is_no_number_is_refused(q):
    with pytest.raises(TypeError, match=r"Summary.quantile needs a real number as q, got q="):
        summarize(jnp.ones(3)).quantile(q)


@pytest.mark.parametrize("trace", [jax.jit, jax.vmap], ids=["jit", "vmap"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_fraction_of_a_quantile_may_be_traced(trace, dtype):
    summary = summarize(jnp.arange(1000.0))
    fractions = jnp.array([0.0, 0.25, 1.0, -0.5, 1.5, jnp.nan], dtype)
    read = trace(summary.quantile)
    found = read(fractions) if trace is jax.vmap else [read(q) for q in fractions]
    expected = [summary.quantile(q) for q in (0.0, 0.25, 1.0)]
    np.testing.assert_allclose(found, [*expected, *[np.nan] * 3], rtol=1e-6)


@pytest.mark.parametrize("size", [7, 1000, 100_003])
def test_zeros_are_counted_exactly(size):
    values = jax.random.normal(jax.random.key(0), (size,))
    assert float(summarize(values).fraction_zero) == 0.0
    assert float(summarize(values.at[3].set(0)).fraction_zero) == float(jnp.float32(1 / size))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32, jnp.complex64, jnp.int32])
def test_the_mean_square_is_that_of_the_values(dtype):
    values = jnp.array([[3.0, -4.0, 0.5], [1.0, 2.0, -7.0]]).astype(dtype)
    expected = np.mean(np.abs(np.asarray(values).astype(complex)) ** 2, axis=1)
    # variance and squared mean are two sums of three terms in single precision
    np.testing.assert_allclose(summarize(values, 1).mean_square, expected, rtol=1e-6)
