"""Curves through data, beside SciPy's."""

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
        (decay, {"loss": "l1"}, ValueError, "curve_fit needs loss .* got loss='l1'"),
        (3, {}, TypeError, "needs a function model.* got 3"),
    ],
)
def test_what_cannot_be_fitted_is_refused(model, options, kind, message):
    with pytest.raises(kind, match=message):
        curve_fit(model, X, Y, [1.0, 1.0], **options)
