"""How well a batch tells a variance: against NumPy, and against what is known of Gaussian rows."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxopt_tut.calibration.spread import Spread, moments, relative_error, spread_of


def spread(value, num_steps=0, rows=(0,)):
    found = moments(jnp.asarray(value), num_steps, rows)
    return spread_of(type(found)(*map(np.asarray, found)), bool(rows))


def test_a_spread_is_what_numpy_makes_of_it():
    value = np.random.default_rng(0).gamma(1.0, size=(3, 50, 4, 5))  # steps, rows, places, units
    found = spread(value.astype(np.float32), 1, (1,))
    for k, one in enumerate(value):
        squares = (one - one.mean()) ** 2
        energies = squares.mean(axis=(1, 2))
        scatter = energies.std(ddof=1) / np.sqrt(50) / energies.mean()
        # sums of a thousand numbers of single precision
        np.testing.assert_allclose(found.variance[k], one.var(), rtol=1e-5)
        np.testing.assert_allclose(found.scatter[k], scatter, rtol=1e-4)
        np.testing.assert_allclose(found.kurtosis[k], (squares**2).mean() / one.var() ** 2, 1e-4)
    assert found.varies.all()


@pytest.mark.parametrize("num_rows", [16, 64])
def test_four_errors_hold_the_variance_of_gaussian_rows(num_rows):
    draws = np.random.default_rng(1).standard_normal((1000, num_rows, 1)).astype(np.float32)
    found = spread(draws, 1, (1,))
    error = relative_error(found, num_rows, 1)
    least = np.sqrt(2 / (num_rows - 1))  # relative deviation of chi-squared over its mean
    assert (error >= least - 1e-6).all()
    missed = np.mean(np.abs(1 - found.variance) > 4 * error * found.variance)
    # Upwards a quarter is never exceeded; downwards with the chance of a chi-squared number.
    chance = scipy.stats.chi2.cdf(num_rows / (1 + 4 * least), num_rows - 1)
    assert chance < 0.03
    assert missed < chance + 4 * np.sqrt(chance / 1000)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e3, -3e-4])
@pytest.mark.parametrize("units", [1, 3])
def test_rows_that_are_equal_do_not_vary(value, units):
    row = value * np.arange(1, units + 1, dtype=np.float32)
    found = spread(np.tile(row, (1001, 1)))
    assert not found.varies
    np.testing.assert_allclose(found.variance, row.var(), rtol=1e-5)
    assert spread(np.tile(row, (1001, 1)) + np.eye(1001, units, dtype=np.float32)).varies


def test_signs_vary_though_their_squares_do_not():
    assert spread(np.float32([[1], [-1], [1], [-1], [1]])).varies


def test_the_error_of_many_rows_is_their_scatter_widened_as_students_t_is():
    known = Spread(np.array(2.0), np.array(0.1), np.array(3.0), np.array(True))
    np.testing.assert_allclose(relative_error(known, 103, 10), 0.1 * np.sqrt(102 / 100))
    tailed = known._replace(kurtosis=np.array(9.0))
    np.testing.assert_allclose(
        relative_error(tailed, 103, 10), 0.1 * np.sqrt(102 / 100) * 2, rtol=1e-12
    )


def test_three_rows_tell_nothing():
    found = spread(np.float32([[1], [2], [4]]))
    assert relative_error(found, 3, 1) == np.inf
