"""The minimum of a quadratic in a ball, against the conditions that only the minimum fulfils."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.linalg import ball_minimum

_MINIMUM = jax.jit(ball_minimum)


def symmetric(seed, eigenvalues):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    return (q * np.array(eigenvalues)) @ q.T, q


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([-1e3, -1.0, 0.0, 1e-6, 1e-3, 1.0, 2.0, 1e5]), min_size=4, max_size=4),
    st.floats(1e-5, 1e5),
    st.sampled_from([1e-6, 1.0, 1e6]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_fulfils_the_conditions_of_the_minimum(spectrum, radius, size, is_hard, seed):
    h, q = symmetric(seed, spectrum)
    g = size * np.random.default_rng(seed + 1).normal(size=4)
    if is_hard:  # nothing along the lowest eigenvector
        lowest = q[:, np.argmin(spectrum)]
        g = g - lowest * (lowest @ g)
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _MINIMUM(jnp.array(h), jnp.array(g), radius))
    p, norm = found.step, np.abs(spectrum).max()
    length = np.linalg.norm(p)
    assert length <= radius * (1 + 1e-12)
    residual = h @ p + g
    multiplier = -(p @ residual) / length**2 if found.on_boundary else 0.0
    # eigh's backward error is a few eps of the norm; the minimum has (H + lambda) p = -g, with
    # lambda >= 0 that makes H + lambda positive semidefinite
    scale = norm * length + np.linalg.norm(g)
    np.testing.assert_allclose(residual + multiplier * p, 0, atol=1e-9 * scale)
    assert multiplier >= -1e-9 * scale / length
    assert multiplier >= -np.min(spectrum) - 1e-9 * (norm + scale / length)
    model = g @ p + 0.5 * p @ h @ p
    np.testing.assert_allclose(found.decrease, -model, atol=1e-9 * scale * length)


def test_stays_at_the_nearest_minimum_of_a_valley():
    found = _MINIMUM(jnp.ones((2, 2)), jnp.array([1.0, 1.0]), 10.0)
    np.testing.assert_allclose(found.step, -0.5, rtol=1e-6)
    assert not found.on_boundary


@pytest.mark.parametrize("curvature", [0.0, jnp.nan, jnp.inf], ids=str)
def test_goes_down_to_the_boundary_where_curvature_is_unknown(curvature):
    found = _MINIMUM(jnp.full((2, 2), curvature), jnp.array([3.0, 4.0]), 10.0)
    np.testing.assert_allclose(found.step, [-6.0, -8.0], rtol=1e-6)
    assert found.on_boundary


def test_nothing_is_to_be_done_without_a_gradient():
    for h in (jnp.eye(2), jnp.zeros((2, 2))):
        np.testing.assert_array_equal(_MINIMUM(h, jnp.zeros(2), 1.0).step, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("hessian", "radius"),
    [
        (symmetric(0, [1.0, 2.0, 5.0])[0], 100.0),
        (symmetric(0, [1.0, 2.0, 5.0])[0], 0.3),
        (symmetric(1, [-1.0, 2.0, 5.0])[0], 0.7),
        (2 * np.eye(3), 100.0),
        (2 * np.eye(3), 0.1),
    ],
    ids=["inside", "boundary", "indefinite", "equal_inside", "equal_boundary"],
)
def test_derivatives_are_those_of_the_minimum(hessian, radius):
    gradient = jnp.array([1.0, -2.0, 0.0])
    bend = jnp.asarray(symmetric(2, [-1.0, 0.5, 2.0])[0])
    turn = jnp.array([0.3, 1.0, -0.7])

    def moved(t):
        found = ball_minimum(jnp.asarray(hessian) + t * bend, gradient + t * turn, radius + t / 3)
        return jnp.append(found.step, found.decrease)

    h = 1e-5  # errors: eps / h = 2e-11 of rounding, h^2 = 1e-10 of truncation, times curvatures
    expected = (moved(h) - moved(-h)) / (2 * h)
    np.testing.assert_allclose(jax.jacfwd(moved)(0.0), expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(jax.jacrev(moved)(0.0), expected, rtol=1e-7, atol=1e-8)
