"""Derivatives of the modified Bessel functions are SciPy's, through zero and far from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as scipy_special
from jax import lax
from jax.scipy import special, stats

from jaxopt_tut import autodiff

POINTS = np.array([0, -0.0, 1e-300, 1e-8, -1e-8, 1e-3, 0.5, -0.99, 1, 1.01, -3, 8, 9, 20])


def bessel(k, x, order):
    """Return a derivative of I_k: 2 I_k' = I_(k-1) + I_(k+1), repeated; sums of like signs."""
    terms = [
        scipy_special.comb(order, j) * scipy_special.iv(k - order + 2 * j, x)
        for j in range(order + 1)
    ]
    return sum(terms) / 2**order


FUNCTIONS = {
    "i0": (special.i0, lambda x, n: bessel(0, x, n)),
    "i1": (special.i1, lambda x, n: bessel(1, x, n)),
    "numpy_i0": (jnp.i0, lambda x, n: bessel(0, x, n)),
    "by_hand": (
        lambda x: lax.bessel_i0e(x) * lax.exp(lax.abs(x)),
        lambda x, n: bessel(0, x, n),
    ),
}


def derivative(fun, order):
    for _ in range(order):
        fun = autodiff.grad(fun)
    return jax.jit(jax.vmap(fun))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.usefixtures("x64")
def test_analytic_functions_have_their_derivatives_at_every_point(name, order):
    fun, exact = FUNCTIONS[name]
    expected = exact(POINTS, order)
    # Cephes' polynomials are good to some 1e-15; each order takes a difference of such terms.
    size = 1e-13 * scipy_special.iv(0, POINTS)
    assert np.all(np.abs(derivative(fun, order)(POINTS) - expected) <= size + 1e-13 * abs(expected))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.usefixtures("x64")
def test_scaled_functions_have_their_derivatives_on_both_sides(k, order):
    fun = (special.i0e, special.i1e)[k]
    x = POINTS[POINTS != 0]
    side = -np.sign(x)
    # Leibniz: (e^-|x| I)^(n) is e^-|x| times the sum of binomials, (-sign)^(n-j) and I^(j).
    terms = [
        scipy_special.comb(order, j) * side ** (order - j) * bessel(k, x, j)
        for j in range(order + 1)
    ]
    expected = np.exp(-np.abs(x)) * sum(terms)
    np.testing.assert_allclose(derivative(fun, order)(x), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_low_precision_has_the_slope_one_half(dtype):
    for fun in (special.i1, special.i1e):
        slope = autodiff.grad(fun)(jnp.zeros((), dtype))
        assert slope.dtype == dtype
        assert abs(float(slope) - 0.5) <= float(jnp.finfo(dtype).eps)


@pytest.mark.usefixtures("x64")
def test_a_concentration_at_zero_has_the_information_of_the_uniform_distribution():
    """Of von Mises and Rice: log I0 has slope 0 and curvature 1/2 at 0."""
    log_i0 = lambda x: jnp.log(special.i0(x))
    assert float(autodiff.grad(log_i0)(0.0)) == 0.0
    assert float(autodiff.grad(autodiff.grad(log_i0))(0.0)) == pytest.approx(0.5, abs=1e-15)
    density = lambda kappa: stats.vonmises.logpdf(0.3, kappa)
    curvature = autodiff.grad(autodiff.grad(density))(1e-9)
    assert float(curvature) == pytest.approx(-0.5, abs=1e-12)


def test_both_modes_agree_at_zero_and_under_jax_transformations():
    for fun in (special.i0, special.i1, special.i1e):
        slope = autodiff.grad(fun)(0.0)
        assert float(autodiff.jvp(fun, (0.0,), (1.0,))[1]) == float(slope)
        outer = jax.grad(autodiff.grad(fun))(0.0)
        assert float(outer) == float(autodiff.grad(autodiff.grad(fun))(0.0))
