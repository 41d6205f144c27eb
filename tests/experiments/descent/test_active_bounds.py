"""The closed form is a minimum, bounds are counted as left, and a quick run passes."""

import numpy as np
import pytest

from experiments.descent import active_bounds
from experiments.descent.active_bounds import HESSIAN, LOWER, TARGET, UPPER


def test_the_closed_form_fulfils_the_conditions_of_a_bounded_minimum():
    point = active_bounds.solution()
    slope = HESSIAN @ (point - TARGET)
    np.testing.assert_allclose(point, np.clip(point - slope, LOWER, UPPER), atol=1e-14)


@pytest.mark.parametrize(
    ("second", "expected"),
    [([1, 2, 1], 0), ([1, 3, 2], 1), ([1, 3, 3], 0), ([1, 3, 0], 1), ([3, 2, 1], 0)],
    ids=["never held", "held and left", "held to the end", "left for the other", "at the start"],
)
def test_counts_the_bounds_that_are_left(second, expected):
    path = np.stack([np.ones(3), second], axis=1)
    assert active_bounds.num_left(path) == expected


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = active_bounds.check(active_bounds.run(active_bounds.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
