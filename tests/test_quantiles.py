"""Quantiles against SciPy's."""

import numpy as np
import pytest
from scipy.stats import norm, t

from jaxopt_tut.quantiles import normal_quantile, student_quantile


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("freedom", [1, 2, 5, 29, 400])
def test_quantiles_are_scipys(level, freedom):
    # the trapezoidal rule on 20 000 cells errs by (pi / 40 000)^2 times a second derivative of
    # up to 400, and so does the interpolation between them
    np.testing.assert_allclose(
        student_quantile(level, freedom), t.ppf((1 + level) / 2, freedom), rtol=1e-5
    )
    np.testing.assert_allclose(normal_quantile(level), norm.ppf((1 + level) / 2), rtol=1e-12)
