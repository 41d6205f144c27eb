"""A claim that is said to hold is checked against its own number and threshold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import _claims
from experiments._claims import Claim, is_contradicted

INF = float("inf")
# the largest floats are rounded to infinity when they are written in few digits
NUMBER = st.floats(width=32) | st.floats(-1e308, 1e308) | st.integers(-3, 3).map(float)


@settings(derandomize=True, max_examples=300)
@given(NUMBER, NUMBER, NUMBER)
def test_no_claim_that_holds_is_contradicted(number, first, second):
    near = first * (1 + 1e-9)
    for measured in (number, first, near):
        for made in (
            _claims.at_most("t", measured, first),
            _claims.at_least("t", measured, first),
            _claims.between("t", measured, first, second),
            _claims.equal("t", measured, first, abs(second)),
        ):
            assert not (made.holds and is_contradicted(made)), made


@pytest.mark.parametrize(
    ("measured", "threshold", "contradicted"),
    [
        ("nan", "≤ 1", True),
        ("nan", "in words", True),
        ("nan", "≤ inf", True),
        ("inf", "≤ 1", True),
        ("inf", "≤ inf", False),
        ("inf", "≥ 1", False),
        ("-inf", "≥ 1", True),
        ("-inf", "≤ 1", False),
        ("inf", "0 … 1", True),
        ("inf", "0 … inf", False),
        ("-inf", "0 … inf", True),
        ("inf", "1 ± 2", True),
        ("inf", "1 ± inf", False),
        ("inf", "in words", False),
        ("inf", "≤ much", False),
        (2, "≤ 1", True),
        (1.0004, "≤ 1", False),
        (2, "≥ 2.1", True),
        (2, "3 … 4", True),
        (5, "3 … 4", True),
        (3.5, "3 … 4", False),
        (3.2, "3 ± 0.1", True),
        (3.104, "3 ± 0.1", False),
        (1e-300, "≤ 0", True),
    ],
)
def test_a_number_that_cannot_hold_is_seen(measured, threshold, contradicted):
    assert is_contradicted(Claim("t", float(measured), threshold, True)) == contradicted
