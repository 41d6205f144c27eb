"""Least-squares solvers on NIST's 27 nonlinear-regression problems, from both published starts.

`python -m benchmarks nist` shows them beside other libraries'.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers import gauss_newton, levenberg_marquardt, minimize
from tests.peers.nist_problems import load

FITS = load()
# those on which methods part: a plateau, valleys that bend, exponentials that are almost the same
HARD = {"Bennett5", "BoxBOD", "Eckerle4", "Lanczos3", "MGH09", "MGH10", "MGH17"}
ALL = [pytest.param(n, marks=() if n in HARD else pytest.mark.slow) for n in FITS]


@pytest.mark.parametrize("name", FITS)
def test_certified_parameters_have_the_certified_sum_of_squares(name):
    fit = FITS[name]
    with jax.enable_x64(True):
        found = float(2 * fit.half_squares(fit.certified))
    # eleven digits of the parameters: the model is off by 1e-10 of the data at most
    off = 1e-10 * np.linalg.norm(fit.y)
    root = np.sqrt(fit.sum_of_squares)
    np.testing.assert_allclose(np.sqrt(found), root, rtol=1e-9, atol=off)


@pytest.mark.parametrize("name", ALL)
def test_levenberg_marquardt_finds_the_certified_parameters_from_both_starts(name):
    fit = FITS[name]
    with jax.enable_x64(True):
        solution = jax.vmap(
            lambda start: minimize(
                fit.half_squares, start, levenberg_marquardt(), residual_fn=fit.residuals
            )
        )(jnp.asarray(fit.starts))
    assert np.all(solution.converged)
    for params in solution.params:
        assert fit.digits(params) >= 6


def test_gauss_newton_never_says_that_a_plateau_is_a_fit():
    # from there it steps to where the model is 0, and no parameter moves it
    fit = FITS["MGH10"]
    with jax.enable_x64(True):
        solution = minimize(
            fit.half_squares, fit.starts[0], gauss_newton(), residual_fn=fit.residuals
        )
    assert not solution.converged
    assert solution.status == 10
    assert "no longer depend on one of the parameters" in solution.message
