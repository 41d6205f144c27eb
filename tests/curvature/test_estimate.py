"""Intervals around estimates."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import t

from jaxopt_tut.curvature import Estimate


def test_intervals_are_students():
    low, high = Estimate(jnp.zeros(2), jnp.array([1.0, 2.0]), degrees=7).interval(0.9)
    half = t.ppf(0.95, 7) * np.array([1.0, 2.0])
    np.testing.assert_allclose(high, half, rtol=1e-5)  # that of the quantile
    np.testing.assert_allclose(low, -half, rtol=1e-5)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match=r"Estimate.interval needs 0 < level < 1, got level="):
        Estimate(jnp.zeros(2), jnp.ones(2), degrees=7).interval(level)


def test_a_single_sample_tells_nothing_of_its_error():
    low, high = Estimate(jnp.ones(2), jnp.array([0.0, 0.5])).interval()
    np.testing.assert_array_equal(low, [1.0, -np.inf])
    np.testing.assert_array_equal(high, [1.0, np.inf])
