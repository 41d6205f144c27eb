"""What `tiny_subspace` measures, at small size."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from experiments.curvature import tiny_subspace as tiny


def test_a_share_is_one_inside_of_the_span_and_zero_beside_it():
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0].T
    inside = np.array([3.0, -4.0]) @ rows[:2]
    beside = 2.0 * rows[3]
    # sums of six products of numbers up to 5
    assert tiny.share(rows[:2], inside) == pytest.approx(1.0, abs=1e-14)
    assert tiny.share(rows[:2], beside) == pytest.approx(0.0, abs=1e-14)
    assert tiny.share(rows[:2], inside + beside) == pytest.approx(25 / 29, abs=1e-14)


def test_the_interval_is_that_of_students_test():
    values = np.array([0.62, 0.87, 0.74, 0.8])
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert tiny.interval(values) == pytest.approx(tuple(expected), rel=1e-12)


@pytest.mark.slow
def test_shares_of_every_seed_and_point_are_measured():
    config = dataclasses.replace(tiny.Config().quick(), epochs=(0, 2))
    result = tiny.run(config)
    assert result.size == 49 * 8 + 8 + 8 * 10 + 10
    assert result.own.shape == result.foreign.shape == (2, 2)
    assert result.way.shape == (2, 1)
    for shares in (result.own, result.foreign, result.way):
        assert ((shares > 0) & (shares < 1)).all()
    # its own eigenvectors hold more of a gradient than those of another network
    assert (result.own > result.foreign).all()
    assert set(tiny.plot(result)) == {"shares"}


@pytest.mark.slow
def test_fewer_epochs_are_the_beginning_of_more():
    config = dataclasses.replace(tiny.Config().quick(), epochs=(0, 1, 2))
    _, short = tiny.trained(tiny._setting(config, 1), "SGD", 0)
    _, long = tiny.trained(tiny._setting(config, 2), "SGD", 0)
    np.testing.assert_array_equal(short, long[: len(short)])
