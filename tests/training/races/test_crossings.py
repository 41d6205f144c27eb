import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_tut.training.races.crossings import first_crossing, median_interval

STEPS = np.array([0.0, 10.0, 20.0, 30.0])
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([4.0, 2.0, 0.5, 0.1], 10 + 10 * 1.0 / 1.5),
        ([4.0, 1.0, 0.5, 0.1], 10.0),
        ([4.0, 3.0, 2.0, 1.5], INF),
        ([1.0, 3.0, 2.0, 1.5], 1.0),  # the start is there already
        ([4.0, 0.5, 3.0, 0.5], 10 * 3.0 / 3.5),  # the first time counts
        ([4.0, NAN, NAN, NAN], INF),
        ([4.0, INF, 0.5, 0.1], 20.0),
        ([INF, INF, INF, INF], INF),
        ([4.0, 2.0, -INF, -INF], INF),
    ],
)
def test_first_crossing_interpolates_between_evaluations(losses, expected):
    found = first_crossing(np.array(losses), STEPS, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_each_run_has_its_own_target():
    losses = np.array([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]])
    found = first_crossing(losses, STEPS, np.array([2.5, 0.5]))
    np.testing.assert_allclose(found, [5.0, 25.0])


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(-5, 5), st.floats(0, 5))
def test_a_looser_target_is_reached_no_later(losses, target, slack):
    losses = np.array(losses)
    steps = 7.0 * np.arange(len(losses))
    strict = first_crossing(losses, steps, target)
    loose = first_crossing(losses, steps, target + slack)
    assert loose <= strict + 1e-9  # rounding of the interpolation, steps of up to 49


@pytest.mark.parametrize(("n", "ranks"), [(6, (0, 5)), (9, (1, 7)), (20, (5, 14))])
def test_median_intervals_are_those_of_the_tables(n, ranks):
    # Conover (1999), Practical Nonparametric Statistics, table A3, for 95 %
    low, high, coverage = median_interval(np.arange(float(n)), 0.95)
    assert (low, high) == ranks
    assert 0.95 <= coverage < 1


def test_median_intervals_cover_as_they_say():
    rng = np.random.default_rng(0)
    low, high, coverage = median_interval(rng.exponential(size=(20_000, 11)), 0.95)
    inside = np.mean((low <= math.log(2)) & (math.log(2) <= high))
    assert abs(inside - coverage) < 4 * math.sqrt(coverage * (1 - coverage) / 20_000)


def test_an_interval_of_few_times_says_what_it_covers_and_may_reach_to_never():
    low, high, coverage = median_interval(np.array([5.0, INF, 3.0]), 0.95)
    assert (low, high, coverage) == (3.0, INF, 0.75)
    assert median_interval(np.array([5.0]), 0.95) == (5.0, 5.0, 0.0)
