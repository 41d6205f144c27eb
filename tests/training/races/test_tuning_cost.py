import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_tut.training.races.tuning_cost import chances_of_best, expected_best


def enumerated(values, order, k, replacement):
    place = np.argsort(order)
    if replacement:
        tried = itertools.product(range(len(values)), repeat=k)
    else:
        tried = itertools.combinations(range(len(values)), k)
    return np.mean([values[min(subset, key=lambda i: place[i])] for subset in tried])


@pytest.mark.parametrize("replacement", [False, True])
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5), st.randoms(), st.integers(1, 5))
def test_the_expected_best_is_that_of_all_subsets(replacement, values, random, k):
    k = k if replacement else min(k, len(values))
    order = list(range(len(values)))
    random.shuffle(order)  # the order need not be that of the values: other seeds made it
    values, order = np.array(values), np.array(order)
    found = expected_best(values, order, k, replacement)
    np.testing.assert_allclose(found, enumerated(values, order, k, replacement), atol=1e-12)


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize(("rates", "trials"), [(1, 1), (20, 1), (20, 7), (200, 100)])
def test_some_rate_is_the_best(replacement, rates, trials):
    chances = chances_of_best(rates, trials, replacement)
    assert np.all(chances >= 0)
    np.testing.assert_allclose(chances.sum(), 1.0, rtol=1e-12)
