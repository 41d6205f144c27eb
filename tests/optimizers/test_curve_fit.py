"""Curves through data, beside SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxopt_tut.optimizers import curve_fit

X = np.linspace(0.0, 3.0, 12)
Y = 2 * np.exp(-0.7 * X) + 0.02 * np.sin(37 * X)


def decay(x, w):
    return w[0] * jnp.exp(-w[1] * x)


def scipys(**options):
    return scipy.optimize.curve_fit(lambda x, a, b: a * np.exp(-b * x), X, Y, [1.0, 1.0], **options)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "sigma", [None, 0.1 + X, np.diag(0.1 + X) + 0.05], ids=["none", "each", "matrix"]
)
@pytest.mark.parametrize("absolute", [False, True])
def test_fits_are_those_of_scipy(sigma, absolute):
    ours = curve_fit(decay, X, Y, [1, 1], sigma=sigma, absolute_sigma=absolute)
    params, matrix = scipys(sigma=sigma, absolute_sigma=absolute and sigma is not None)
    if absolute and sigma is None:
        matrix = matrix / ours.covariance.residual_variance
    # SciPy's derivatives are differences, right to 1e-8 or so
    np.testing.assert_allclose(ours.params, params, rtol=1e-6)
    np.testing.assert_allclose(ours.covariance.matrix, matrix, rtol=1e-5)
    np.testing.assert_allclose(ours.standard_errors, np.sqrt(np.diag(matrix)), rtol=1e-5)


CURVES = {
    "exponential": (lambda x, w, xp: w[0] * xp.exp(w[1] * x) + w[2], [1.5, -0.9, 0.3], [1, -1, 0]),
    "power": (lambda x, w, _: w[0] * (x + 1) ** w[1], [2.0, 0.6], [1, 1]),
    "logistic": (lambda x, w, xp: w[0] / (1 + xp.exp(-w[1] * (x - w[2]))), [3, 2, 1.4], [2, 1, 1]),
    "peak": (lambda x, w, xp: w[0] * xp.exp(-(((x - w[1]) / w[2]) ** 2)), [2, 1.3, 0.6], [1, 1, 1]),
    "sine": (lambda x, w, xp: w[0] * xp.sin(w[1] * x + w[2]), [1.5, 2.1, 0.4], [1, 2, 0]),
    "saturation": (lambda x, w, _: w[0] * x / (w[1] + x), [4.0, 0.8], [3, 1]),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curve", CURVES)
def test_curves_of_many_kinds_are_those_of_scipy(curve):
    function, true, start = CURVES[curve]
    y = function(X, true, np) + 0.03 * np.sin(37 * X)
    ours = curve_fit(lambda x, w: function(x, w, jnp), X, y, start)
    params, matrix = scipy.optimize.curve_fit(
        lambda x, *w: function(x, w, np), X, y, start, xtol=1e-12, ftol=1e-12
    )
    assert ours.solution.converged
    # SciPy's derivatives are differences, right to 1e-8 or so; ours ends half of the digits off
    np.testing.assert_allclose(ours.params, params, rtol=1e-5)
    np.testing.assert_allclose(ours.standard_errors, np.sqrt(np.diag(matrix)), rtol=1e-4)


def test_fits_are_compiled_and_batched_in_single_precision():
    fit = lambda y, s: curve_fit(decay, X, y, jnp.ones(2, "float32"), sigma=s, loss="huber")
    ys = jnp.array([Y, 3 * Y], "float32")
    found = jax.jit(jax.vmap(fit))(ys, jnp.array([1.0, 3.0], "float32"))
    alone = fit(ys[0], 1.0)
    assert found.params.dtype == found.standard_errors.dtype == "float32"
    # the second is the first in other units
    for row, unit in enumerate([1.0, 3.0]):
        scale = np.array([unit, 1.0])
        np.testing.assert_allclose(found.params[row], scale * alone.params, rtol=1e-3)
        np.testing.assert_allclose(
            found.standard_errors[row], scale * alone.standard_errors, rtol=1e-2
        )
    np.testing.assert_allclose(alone.params, scipys()[0], rtol=1e-3)


def test_fits_in_a_program_take_any_matrix_and_flag_a_bad_one():
    bad = jnp.diag(jnp.array([-1.0, *np.ones(11)], "float32"))
    fit = jax.jit(lambda s: curve_fit(decay, X, Y, [1.0, 1.0], sigma=s))(bad)
    assert not fit.solution.converged
    assert not fit.covariance.is_determined


@pytest.mark.usefixtures("x64")
def test_a_fit_with_a_robust_loss_has_the_covariance_of_scipy():
    options = {"method": "trf", "xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}
    params, matrix = scipys(loss="soft_l1", f_scale=0.01, **options)
    ours = curve_fit(decay, X, Y, [1.0, 1.0], loss="soft_l1", loss_scale=0.01)
    np.testing.assert_allclose(ours.params, params, rtol=1e-6)
    np.testing.assert_allclose(ours.covariance.matrix, matrix, rtol=1e-5)


def test_a_fit_prints_each_parameter_with_its_error():
    fit = curve_fit(lambda x, w: w["a"] + w["b"] * x, X, 1 + 2 * X, {"a": 0.0, "b": 0.0}, sigma=1.0)
    assert "b        2 +- " in repr(fit)
    assert "<table>" in fit._repr_html_()


@pytest.mark.parametrize(
    ("model", "options", "kind", "message"),
    [
        (lambda w, x: w[0] + w[1] * x, {}, ValueError, r"it seems to take \(params, x\)"),
        (lambda x, a, b: a + b * x, {}, TypeError, "all parameters in one tree.*missing"),
        (lambda _, w: w[0], {}, ValueError, r"the shape of y, \(12,\), got \(\)"),
        (decay, {"sigma": np.ones(3)}, ValueError, r"needs sigma .* got shape \(3,\)"),
        (decay, {"sigma": -1.0}, ValueError, "needs sigma > 0, got sigma=-1.0"),
        (decay, {"sigma": np.ones((12, 12))}, ValueError, "positive definite matrix sigma"),
        (decay, {"sigma": -np.eye(12)}, ValueError, "positive definite matrix sigma"),
        (decay, {"sigma": np.tri(12) + np.eye(12)}, ValueError, "symmetric.* matrix sigma"),
        (decay, {"loss": "l1"}, ValueError, "curve_fit needs loss .* got loss='l1'"),
        (3, {}, TypeError, "needs a function model.* got 3"),
    ],
)
def test_what_cannot_be_fitted_is_refused(model, options, kind, message):
    with pytest.raises(kind, match=message):
        curve_fit(model, X, Y, [1.0, 1.0], **options)
