"""Solves against dense ones, and what they do where the matrix is not definite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxopt_tut.linalg import (
    modified_cholesky_solve,
    polar_factor,
    saddle_free_solve,
    truncated_cg,
)


def symmetric(seed, eigenvalues):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    return (q * np.array(eigenvalues)) @ q.T


@pytest.mark.usefixtures("x64")
def test_a_definite_system_is_solved_by_all():
    h = jnp.array(symmetric(0, [1.0, 2.0, 5.0, 10.0]))
    g = jnp.array([1.0, -2.0, 3.0, 0.5])
    exact = np.linalg.solve(h, g)
    np.testing.assert_allclose(modified_cholesky_solve(h, g), exact, rtol=1e-12)
    np.testing.assert_allclose(saddle_free_solve(h, g), exact, rtol=1e-12)
    found = truncated_cg(lambda v: h @ v, g, tol=1e-11, max_steps=10)
    np.testing.assert_allclose(found.step, -exact, rtol=1e-9)
    np.testing.assert_allclose(found.decrease, 0.5 * g @ exact, rtol=1e-9)
    assert found.num_products == 4  # as many as there are dimensions
    assert not found.is_indefinite
    assert not found.on_boundary


_SPECTRUM = st.lists(st.floats(-10, 10), min_size=3, max_size=3)


@settings(deadline=None, max_examples=30)
@given(_SPECTRUM, st.integers(0, 1000))
def test_solutions_ascend_whatever_the_spectrum(eigenvalues, seed):
    with jax.enable_x64(True):
        h, g = jnp.array(symmetric(seed, eigenvalues)), jnp.array([1.0, -2.0, 0.5])
        for solve in (modified_cholesky_solve, saddle_free_solve):
            assert g @ jax.jit(solve)(h, g) > 0


@settings(deadline=None, max_examples=30)
@given(_SPECTRUM, st.floats(0.01, 100.0), st.integers(0, 1000))
def test_steps_stay_in_the_ball_and_decrease_the_model_as_the_cauchy_point(spectrum, radius, seed):
    with jax.enable_x64(True):
        h, g = jnp.array(symmetric(seed, spectrum)), jnp.array([1.0, -2.0, 0.5])
        found = _ball_step(h, g, radius)
        model = lambda p: g @ p + 0.5 * p @ h @ p
        assert jnp.linalg.norm(found.step) <= radius * (1 + 1e-12)
        np.testing.assert_allclose(found.decrease, -model(found.step), rtol=1e-6, atol=1e-9)
        length, curvature = jnp.linalg.norm(g), g @ h @ g
        cauchy = radius / length
        if curvature > 0:
            cauchy = min(cauchy, length**2 / curvature)
        assert model(found.step) <= model(-cauchy * g) + 1e-9


@jax.jit
def _ball_step(h, g, radius):
    return truncated_cg(lambda v: h @ v, g, tol=1e-10, radius=radius, max_steps=30)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spectrum", [[1.0, 2.0, -3.0], [2.0, 2.0, 2.0], [1.0, -1.0, 1.0]], ids=str)
def test_saddle_free_solves_have_derivatives_also_where_eigenvalues_coincide(spectrum):
    h, g = jnp.array(symmetric(0, spectrum)), jnp.array([1.0, -2.0, 0.5])
    solve = lambda h, g: saddle_free_solve((h + h.T) / 2, g)
    # central differences: truncation step^2, rounding eps / step
    check_grads(solve, (h, g), order=1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-7)


@pytest.mark.usefixtures("x64")
def test_a_small_residual_alone_misses_the_flat_directions():
    curvatures, g = jnp.array([1e8, 1.0, 1e-2]), jnp.array([1e4, 1.0, 1.0])
    matvec = jax.jit(lambda v: curvatures * v)
    steep = truncated_cg(matvec, g, tol=10.0, max_steps=9)
    assert steep.num_products == 1
    full = truncated_cg(matvec, g, tol=10.0, model_tol=0.5, max_steps=9)
    # along the flattest direction the decrease is 50, along the steepest 0.5
    assert full.decrease > 10 * steep.decrease


def test_without_a_ball_negative_curvature_ends_before_it():
    g = jnp.array([1.0, 1.0])
    first = truncated_cg(lambda v: -v, g, tol=1e-6, max_steps=9)
    np.testing.assert_array_equal(first.step, -g)
    assert first.is_indefinite
    later = truncated_cg(lambda v: jnp.array([4.0, -1.0]) * v, g, tol=1e-6, max_steps=9)
    assert later.num_products == 2
    np.testing.assert_allclose(later.step, -g * (2 / 3), rtol=1e-6)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf], ids=str)
def test_what_is_not_finite_ends(bad):
    h, g = jnp.diag(jnp.array([1.0, bad])), jnp.array([1.0, 1.0])
    assert not jnp.all(jnp.isfinite(jax.jit(modified_cholesky_solve)(h, g)))
    solve = jax.jit(lambda h, g: truncated_cg(lambda v: h * v, g, tol=1e-6, max_steps=9))
    assert solve(bad, g).num_products == 1
    assert solve(1.0, bad * g).num_products == 0


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 5), (1, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_polar_factor_has_unit_singular_values_and_its_derivative(shape, dtype):
    a = jax.random.normal(jax.random.key(1), shape, dtype)
    q = polar_factor(a)
    np.testing.assert_allclose(jnp.linalg.svd(q, compute_uv=False), 1.0, rtol=1e-12)
    nuclear_norm = jnp.linalg.svd(a, compute_uv=False).sum()
    np.testing.assert_allclose(jnp.real(jnp.sum(q.conj() * a)), nuclear_norm, rtol=1e-12)
    da = jax.random.normal(jax.random.key(2), shape, dtype)
    _, dq = jax.jvp(polar_factor, (a,), (da,))
    h = 1e-6
    central = (polar_factor(a + h * da) - polar_factor(a - h * da)) / (2 * h)
    np.testing.assert_allclose(dq, central, atol=1e-7)  # truncation h^2, rounding eps / h


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_polar_derivative_is_finite_where_singular_values_coincide_or_vanish():
    da = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    _, at_identity = jax.jvp(polar_factor, (jnp.eye(2),), (da,))
    np.testing.assert_allclose(at_identity, (da - da.T) / 2, rtol=1e-12)
    for singular in (jnp.zeros((2, 2)), jnp.diag(jnp.array([1.0, 0.0]))):
        grad = jax.grad(lambda a: jnp.sum(polar_factor(a) * da))(singular)
        assert jnp.all(jnp.isfinite(grad))
    np.testing.assert_array_equal(polar_factor(jnp.zeros((2, 2))), 0)
