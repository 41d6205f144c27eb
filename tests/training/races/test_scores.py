import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_tut.training.races.profiles import performance_ratios, shares_within
from jaxopt_tut.training.races.scores import algoperf_areas, areas

INF = math.inf
GIVEN = np.array(
    [
        [10.0, 20.0, INF, 30.0, INF, 7.0],
        [10.0, 40.0, INF, INF, 50.0, 7.0],
        [25.0, 80.0, INF, 31.0, 60.0, 28.0],
        [INF, INF, INF, INF, INF, INF],
    ]
)


def algoperf(times, max_ratio=4.0):
    """Score as scoring/performance_profile.py and score_submissions.py of AlgoPerf do."""
    with np.errstate(invalid="ignore"):
        ratios = times / times.min(axis=0)  # not a number where nobody arrives
    taus = np.linspace(1.0, max_ratio, num=100)
    shares = np.stack([np.sum(ratios <= tau, axis=1) / times.shape[1] for tau in taus], axis=1)
    return np.trapezoid(shares, x=taus) / (taus.max() - taus.min())


def by_pieces(times, max_ratio=4.0):
    """Integrate the step functions between their jumps."""
    ratios = performance_ratios(times)
    finite = ratios[np.isfinite(ratios)]
    jumps = np.unique([1.0, *np.clip(finite, 1.0, max_ratio).tolist(), max_ratio])
    middle = (jumps[1:] + jumps[:-1]) / 2
    return shares_within(ratios, middle) @ np.diff(jumps) / (max_ratio - 1)


TIMES = st.lists(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.5, 7.25, 30.0, INF]), min_size=3, max_size=3),
    min_size=1,
    max_size=5,
).map(np.array)


def test_scores_of_given_times_are_algoperfs():
    found = algoperf_areas(performance_ratios(GIVEN), 4.0)
    np.testing.assert_allclose(found, algoperf(GIVEN), rtol=1e-12)
    assert found[-1] == 0


@given(TIMES, st.sampled_from([1.5, 4.0, 10.0]))
def test_scores_are_algoperfs_with_ties_and_without_arrivals(times, max_ratio):
    ratios = performance_ratios(times)
    np.testing.assert_allclose(
        algoperf_areas(ratios, max_ratio), algoperf(times, max_ratio), rtol=1e-12
    )


@given(TIMES, st.sampled_from([1.5, 4.0, 10.0]))
def test_the_closed_form_is_the_integral(times, max_ratio):
    found = areas(performance_ratios(times), max_ratio)
    np.testing.assert_allclose(found, by_pieces(times, max_ratio), rtol=1e-12, atol=1e-15)


def test_a_hundred_points_are_off_by_half_a_cell_at_most():
    ratios = performance_ratios(np.random.default_rng(0).uniform(1, 9, (8, 5)))
    assert np.all(np.abs(algoperf_areas(ratios, 4.0) - areas(ratios, 4.0)) <= 1 / 198 + 1e-12)


def test_profiles_count_problems():
    ratios = performance_ratios(GIVEN)
    np.testing.assert_array_equal(ratios[:, 2], INF)
    shares = shares_within(ratios, np.array([1.0, 2.0, 4.0, 1e9]))
    expected = [[4, 4, 4, 4], [3, 4, 4, 4], [0, 2, 5, 5], [0, 0, 0, 0]]
    np.testing.assert_array_equal(shares, np.array(expected) / 6)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_ratios_have_no_unit(scale):
    np.testing.assert_allclose(performance_ratios(GIVEN * scale), performance_ratios(GIVEN))
