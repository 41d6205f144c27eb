"""Covariances of fits beside SciPy's and those that NIST certifies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxopt_tut.optimizers import covariance, least_squares
from tests.peers import nist_problems

T = np.linspace(0.0, 3.0, 12)
Y = 2 * np.exp(-0.7 * T) + 0.02 * np.sin(37 * T)


def decay(w, y):
    return w["a"] * jnp.exp(-w["b"] * T.astype(y.dtype)) - y


START = {"a": 1.0, "b": 1.0}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Misra1a", "Thurber", "BoxBOD", "Chwirut2"])
def test_standard_errors_are_those_that_nist_certifies(name):
    problem = nist_problems.load()[name]
    found = covariance(jnp.array(problem.certified), problem.residuals)
    # certified to 11 digits, at parameters of 11 digits
    np.testing.assert_allclose(found.standard_errors, problem.deviations, rtol=1e-8)
    freedom = len(problem.y) - len(problem.certified)
    np.testing.assert_allclose(found.residual_variance, problem.sum_of_squares / freedom, rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("absolute", [True, False])
def test_covariances_of_trees_are_those_of_scipy(absolute):
    solution = least_squares(decay, START, jnp.array(Y))
    found = covariance(solution, decay, jnp.array(Y), absolute_sigma=absolute)
    model = lambda t, a, b: a * np.exp(-b * t)
    _, theirs = scipy.optimize.curve_fit(
        model, T, Y, [1.0, 1.0], sigma=np.ones(12), absolute_sigma=absolute
    )
    # SciPy's derivatives are differences, right to 1e-8 or so
    np.testing.assert_allclose(found.matrix, theirs, rtol=1e-5)
    np.testing.assert_allclose(found.standard_errors["b"], np.sqrt(theirs[1, 1]), rtol=1e-5)
    assert found.is_determined
    assert found.degrees_of_freedom == 10


@pytest.mark.usefixtures("x64")
def test_covariances_of_robust_fits_are_those_of_scipy():
    options = {"loss": "cauchy", "loss_scale": 0.01}
    solution = least_squares(decay, START, jnp.array(Y), gtol=1e-9, **options)
    found = covariance(solution, decay, jnp.array(Y), **options)
    model = lambda t, a, b: a * np.exp(-b * t)
    _, theirs = scipy.optimize.curve_fit(
        model, T, Y, [1.0, 1.0], method="trf", loss="cauchy", f_scale=0.01,
        xtol=1e-14, ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    # SciPy's derivatives are differences, right to 1e-8 or so
    np.testing.assert_allclose(found.matrix, theirs, rtol=1e-5)


def test_a_loss_that_is_none_has_no_covariance():
    with pytest.raises(ValueError, match=r"covariance needs loss .* got loss='l1'"):
        covariance(jnp.ones(2), lambda w: w, loss="l1")


def test_covariances_are_batched_and_keep_single_precision():
    ys = jnp.array([Y, 2 * Y], "float32")
    start = jax.tree.map(jnp.float32, {"a": 2.0, "b": 0.7})
    found = jax.jit(jax.vmap(lambda y: covariance(start, decay, y)))(ys)
    assert found.matrix.dtype == "float32"
    for i, y in enumerate(ys):
        alone = covariance(start, decay, y)
        np.testing.assert_allclose(found.matrix[i], alone.matrix, rtol=1e-4)


@pytest.mark.parametrize(
    ("residuals", "absolute", "rank"),
    [
        (lambda w: (w[0] + w[1]) * jnp.arange(1.0, 5.0) - 1, True, 1),
        (lambda w: w[0] * jnp.arange(1.0, 5.0) + 0 * w[1], True, 1),
        (lambda w: w - 1, False, 2),
        (lambda w: w[:1] - 1, True, 1),
    ],
    ids=["collinear", "without hold", "as many", "fewer"],
)
def test_what_the_data_do_not_determine_is_infinite_and_flagged(residuals, absolute, rank):
    found = covariance(jnp.ones(2), residuals, absolute_sigma=absolute)
    assert not found.is_determined
    assert found.rank == rank
    assert np.isinf(found.matrix).all()
    assert np.isinf(found.standard_errors).all()


@pytest.mark.usefixtures("x64")
def test_condition_numbers_are_not_squared():
    # columns nearly parallel: J^T J has lost all digits, the inverse of J has 1e-16 * 1e9 of them
    a = jnp.array([[1.0, 1.0], [0.0, 1e-9], [0.0, 0.0]])
    found = covariance(jnp.zeros(2), lambda w: a @ w, absolute_sigma=True)
    np.testing.assert_allclose(found.matrix[1, 1], 1e18, rtol=1e-6)


def test_integers_are_no_residuals():
    with pytest.raises(TypeError, match="covariance needs floating or complex residuals"):
        covariance(jnp.ones(2), lambda _: jnp.arange(3))
