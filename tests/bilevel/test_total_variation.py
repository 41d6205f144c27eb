"""Total variation against an exhaustive search, on grids where most vectors have ties."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel.layers import prox_tv1d

_denoise_all = jax.jit(jax.vmap(prox_tv1d))


def exhaustive(x, lam):
    """Write the solution for each pattern of jumps, and take the one of least cost.

    In float64; costs within rounding of each other allow half the digits of the point.
    """
    best, solution = np.full(len(x), np.inf), np.zeros_like(x)
    dim = x.shape[1]
    for jumps in itertools.product((-1, 0, 1), repeat=dim - 1):
        ends = np.flatnonzero(jumps)
        segments = np.split(np.arange(dim), ends + 1)
        edges = [0, *(jumps[i] for i in ends), 0]
        u = np.empty_like(x)
        for segment, left, right in zip(segments, edges[:-1], edges[1:], strict=True):
            u[:, segment] = (x[:, segment].mean(axis=1) + lam * (right - left) / len(segment))[
                :, None
            ]
        cost = 0.5 * ((u - x) ** 2).sum(axis=1) + lam * np.abs(np.diff(u)).sum(axis=1)
        better = cost < best
        best, solution = np.where(better, cost, best), np.where(better[:, None], u, solution)
    return solution


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25], ids=str)
def test_ties_on_a_grid_are_solved_as_by_exhaustion(dtype, scale):
    rng = np.random.default_rng(0)
    x, lam = rng.integers(-5, 6, (20_000, 5)) / 10, rng.integers(0, 8, 20_000) / 10
    x[0], lam[0] = [0.5, 0.1, -0.3, -0.1, 0.4], 0.3
    with jax.enable_x64(dtype == "float64"):
        found = _denoise_all(jnp.asarray(scale * x, dtype), jnp.asarray(scale * lam, dtype))
        found = np.asarray(found, float) / scale
    np.testing.assert_allclose(found[0], [0.2, 0.1, 0.1, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(found, exhaustive(x, lam), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_an_image_fulfil_the_optimality_condition(dtype):
    rng = np.random.default_rng(1)
    # 64 grey values of a few flat regions with a little noise: ties and long segments
    flat = np.repeat(rng.integers(0, 8, (300, 10)) * 32, 20, axis=1)
    x = (np.clip(flat + rng.integers(-3, 4, flat.shape), 0, 255) / 255).astype(dtype)
    lam = np.asarray(rng.integers(0, 60, 300) / 255, dtype)
    with jax.enable_x64(dtype == "float64"):
        u = np.asarray(_denoise_all(jnp.asarray(x), jnp.asarray(lam)), float)
    dual, lam = np.cumsum(x - u, axis=1), lam[:, None].astype(float)
    tolerance = 200 * np.finfo(dtype).eps  # sums of 200 numbers up to 1
    assert np.all(np.abs(dual[:, :-1]) <= lam + tolerance)
    assert np.all(np.abs(dual[:, -1]) <= tolerance)
    jumps = np.diff(u)
    clear = np.abs(jumps) > tolerance
    gap = np.where(clear, dual[:, :-1] + lam * np.sign(jumps), 0)
    np.testing.assert_allclose(gap, 0, atol=tolerance)


def test_any_weight_ends_and_only_one_that_is_a_weight_gives_numbers():
    x = jnp.array([1.0, 2.0, 6.0])
    weights = jnp.array([5.0, 1e30, jnp.inf, 0.0, 1.0, -1.0, jnp.nan, -jnp.inf, 1.0, 1.0, 1.0])
    signals = jnp.tile(x, (len(weights), 1)).at[-3:, 1].set(jnp.array([jnp.nan, jnp.inf, -jnp.inf]))
    solve = lambda signals: _denoise_all(signals, weights)
    found, slopes = jax.jvp(solve, (signals,), (jnp.ones_like(signals),))
    np.testing.assert_allclose(found[:5], [[3, 3, 3]] * 3 + [[1, 2, 6], [2, 2, 5]], rtol=1e-6)
    np.testing.assert_allclose(slopes[:5], 1, rtol=1e-6)
    assert jnp.isnan(found[5:]).all()
    assert jnp.isnan(slopes[5:]).all()
    np.testing.assert_array_equal(prox_tv1d(x, np.inf), 3)


def test_derivatives_at_zero_weight_are_those_of_the_identity_and_of_merging():
    jacobians = jax.jacobian(prox_tv1d, (0, 1))(jnp.array([0.0, 1.0, 1.0, 1.0, 0.0]), 0.0)
    np.testing.assert_array_equal(jacobians[0], jnp.eye(5))
    np.testing.assert_allclose(jacobians[1], [1, -2 / 3, -2 / 3, -2 / 3, 1], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_derivative_at_a_tie_is_that_of_one_side():
    x = jnp.array([0.5, 0.1, -0.3, -0.1, 0.4])  # the last sample parts below a weight of 0.3
    jacobian = jax.jit(jax.jacobian(prox_tv1d))
    sides = [jacobian(x, lam) for lam in (0.299, 0.301)]
    assert jnp.abs(sides[0] - sides[1]).max() > 0.1
    at_tie = jacobian(x, 0.3)
    assert min(float(jnp.abs(at_tie - side).max()) for side in sides) < 1e-12


def test_other_kinds_of_numbers():
    np.testing.assert_array_equal(prox_tv1d(jnp.array([1, 2, 6]), 1), [2, 2, 5])
    halves = prox_tv1d(jnp.array([1.0, 2.0, 6.0], jnp.bfloat16), 1.0)
    assert halves.dtype == jnp.bfloat16
    np.testing.assert_array_equal(halves.astype(float), [2, 2, 5])
    np.testing.assert_array_equal(prox_tv1d(jnp.array([3.0]), 1.0), [3])
    assert prox_tv1d(jnp.zeros(0), 1.0).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((jnp.eye(2), 1.0), ValueError, r"prox_tv1d needs a vector, got shape \(2, 2\)"),
        ((jnp.ones(3), jnp.ones(3)), ValueError, r"prox_tv1d needs a scalar lam, got shape \(3,\)"),
        ((jnp.ones(3), -0.5), ValueError, "prox_tv1d needs lam >= 0, got lam=-0.5"),
        ((jnp.ones(3), np.float32(np.nan)), ValueError, "prox_tv1d needs lam >= 0, got lam=nan"),
        ((jnp.ones(3), 1j), TypeError, "prox_tv1d needs a real lam, got complex"),
        ((jnp.ones(3, complex), 1.0), TypeError, "prox_tv1d needs real numbers, got complex"),
    ],
    ids=["matrix", "weights", "negative", "nan", "complex weight", "complex"],
)
def test_bad_arguments_are_refused_in_a_sentence(arguments, error, match):
    with pytest.raises(error, match=match):
        prox_tv1d(*arguments)
