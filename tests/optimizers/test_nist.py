"""Least-squares solvers on NIST's 27 nonlinear-regression problems, from both published starts.

`python -m benchmarks nist` shows them beside other libraries'.
"""

import jax
import numpy as np
import pytest

from tests.peers.nist_problems import load

FITS = load()


@pytest.mark.parametrize("name", FITS)
def test_certified_parameters_have_the_certified_sum_of_squares(name):
    fit = FITS[name]
    with jax.enable_x64(True):
        found = float(2 * fit.half_squares(fit.certified))
    # eleven digits of the parameters: the model is off by 1e-10 of the data at most
    off = 1e-10 * np.linalg.norm(fit.y)
    root = np.sqrt(fit.sum_of_squares)
    np.testing.assert_allclose(np.sqrt(found), root, rtol=1e-9, atol=off)
