import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test
from statsmodels.stats.multitest import multipletests

from jaxopt_tut.training.races import sign_flips
from jaxopt_tut.training.races.sign_flips import holm, sign_flip_p_values, smallest_p_value


def scipys(differences):
    return permutation_test(
        (differences,),
        lambda d, axis: np.sum(d, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
@pytest.mark.parametrize("kind", ["continuous", "ties", "zeros"])
def test_sign_flips_are_scipys_permutation_test(n, kind):
    rng = np.random.default_rng(n)
    differences = rng.normal(0.4, 1.0, (4, n))
    if kind != "continuous":
        differences = np.round(2 * differences)
    if kind == "zeros":
        differences[:, ::2] = 0.0
    expected = [scipys(row) for row in differences]
    np.testing.assert_allclose(sign_flip_p_values(differences), expected, rtol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0, 10.0])
def test_the_grid_counts_what_enumeration_counts(shift, monkeypatch):
    # whole numbers that fill the grid to a whole factor lie on it, so that nothing is rounded
    rng = np.random.default_rng(1)
    differences = rng.integers(-10, 11, 16).astype(float) + shift
    expected = sign_flip_p_values(differences[None])
    monkeypatch.setattr(sign_flips, "MOST_ENUMERATED", 0)
    monkeypatch.setattr(sign_flips, "GRID", 3 * int(np.abs(differences).sum()))
    np.testing.assert_allclose(sign_flip_p_values(differences[None]), expected, rtol=1e-12)


def test_the_grid_is_fine_enough():
    rng = np.random.default_rng(2)
    differences = rng.normal(0.3, 1.0, (20, 24))
    exact = sign_flip_p_values(differences)
    rounded = [sign_flips._on_a_grid(row) for row in differences]
    # A rounded sum is off by up to half a cell a difference, 12 of the standard deviation's
    # 8192 / sqrt(24) * 1.25 cells: .6 % of it, and a p value moves by less than its density 0.8.
    np.testing.assert_allclose(rounded, exact, atol=0.005)


@pytest.mark.parametrize("n", [30, 60, 150])
def test_equal_sizes_are_the_sign_test(n):
    signs = np.where(np.arange(n) < 0.65 * n, 1.0, -1.0)
    expected = binomtest(int(np.sum(signs > 0)), n).pvalue
    np.testing.assert_allclose(sign_flip_p_values(signs[None]), [expected], rtol=1e-9)


@pytest.mark.parametrize("n", [1, 5, 24, 25, 40])
def test_one_sign_gives_the_smallest_p_value(n):
    differences = np.random.default_rng(n).uniform(0.5, 2.0, (1, n))
    np.testing.assert_allclose(sign_flip_p_values(differences), smallest_p_value(n), rtol=1e-9)


def test_no_difference_is_no_evidence():
    assert sign_flip_p_values(np.zeros((2, 3))).tolist() == [1.0, 1.0]
    assert sign_flip_p_values(np.array([[1.0, -1.0]])).tolist() == [1.0]
    assert sign_flip_p_values(np.zeros((0, 4))).tolist() == []


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=10), st.floats(0.1, 10))
def test_p_values_know_neither_the_unit_nor_the_side(values, scale):
    differences = np.array([values])
    p = sign_flip_p_values(differences)
    np.testing.assert_allclose(sign_flip_p_values(-scale * differences), p, rtol=1e-12)
    assert 0 < p[0] <= 1


@settings(max_examples=20)  # statsmodels takes 40 ms a call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_that_of_statsmodels(values):
    expected = multipletests(values, method="holm")[1]
    np.testing.assert_allclose(holm(np.array(values)), expected, rtol=1e-12, atol=0)
    assert holm(np.zeros(0)).shape == (0,)
