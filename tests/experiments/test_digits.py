"""What is shown of a claim decides it as the numbers do."""

import math
import operator
import re
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments import _claims, _digits

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
numbers = st.one_of(
    finite,
    st.integers(-1000, 1000).map(float),
    st.floats(-2, 2).map(lambda x: round(x, 3)),
)


@st.composite
def neighbours(draw):
    """Draw a number and one that is equal, a step of rounding away, near, or anywhere."""
    one = draw(numbers)
    near = [
        one,
        math.nextafter(one, math.inf),
        math.nextafter(one, -math.inf),
        one * (1 + draw(st.sampled_from([1e-12, 1e-9, 1e-6, 1e-4, -1e-7, -1e-3]))),
        draw(numbers),
    ]
    other = draw(st.sampled_from(near))
    return one, other if math.isfinite(other) else one


def decide(claim):
    """Judge a claim by nothing but what is shown of it."""
    limits = [Fraction(word) for word in re.split(r"[≤≥…± ]+", claim.threshold) if word]
    if off := re.fullmatch(r"off by (\S+)", claim.shown):
        return Fraction(off[1]) <= limits[1]
    if apart := re.fullmatch(r"(\S+) (above|below) (\S+)", claim.shown):
        assert Fraction(apart[1]) > 0
        assert Fraction(apart[3]) in limits
        above, nearest = apart[2] == "above", Fraction(apart[3])
        if "…" in claim.threshold:
            return nearest == limits[0] if above else nearest == limits[1]
        return above == ("≥" in claim.threshold)
    shown = Fraction(claim.shown)
    if "±" in claim.threshold:
        return abs(shown - limits[0]) <= limits[1]
    if "…" in claim.threshold:
        return limits[0] <= shown <= limits[1]
    return shown <= limits[0] if "≤" in claim.threshold else shown >= limits[0]


@given(neighbours())
@example((0.33331, 1 / 3))
def test_limits_and_numbers_are_told_apart(pair):
    for state, holds in ((_claims.at_most, operator.le), (_claims.at_least, operator.ge)):
        claim = state("t", *pair)
        assert claim.holds == holds(*pair) == decide(claim)
        assert (claim.shown == claim.threshold[2:]) == (pair[0] == pair[1])


@given(neighbours(), numbers)
def test_numbers_and_the_ends_of_an_interval_are_told_apart(pair, far):
    measured, end = pair
    low, high = sorted((end, far))
    claim = _claims.between("t", measured, low, high)
    assert claim.holds == (low <= measured <= high) == decide(claim)


@given(neighbours(), st.one_of(st.floats(0, 1e-3), st.floats(0, 1e300), st.just(0.0)), st.data())
def test_what_a_number_is_off_by_is_seen(pair, tolerance, data):
    measured, expected = pair
    distance = abs(measured - expected)
    tolerance = data.draw(st.sampled_from([tolerance, distance, math.nextafter(distance, 0)]))
    if not math.isfinite(distance):
        return
    claim = _claims.equal("t", measured, expected, tolerance)
    assert claim.holds == (distance <= tolerance) == decide(claim)
    if "off" not in claim.shown and tolerance:
        # the digits that are shown reach the tolerance
        assert abs(Fraction(claim.shown) - Fraction(measured)) <= Fraction(tolerance)


@pytest.mark.parametrize(
    ("claim", "shown", "threshold"),
    [
        (_claims.at_most("t", 0.5, 1.0), "0.5", "≤ 1"),
        (_claims.at_most("t", 0.33331, 1 / 3), "0.33331", "≤ 0.33333"),
        (_claims.at_least("t", 1 - 2**-53, 1.0), "1.1e-16 below 1", "≥ 1"),
        (_claims.at_least("t", 633226.0, 600000.0), "633226", "≥ 600000"),
        (_claims.between("t", 0.25, 0.1, 0.3), "0.25", "0.1 … 0.3"),
        (_claims.equal("t", 0.286041, 0.28604, 1e-5), "0.286041", "0.28604 ± 1e-05"),
        (
            _claims.equal("t", 0.00209834 + 2e-15, 0.00209834, 1.1e-13),
            *("off by 2e-15", "0.00209834 ± 1.1e-13"),
        ),
        (_claims.equal("t", 3.0, 3.0, 0.0), "3", "3 ± 0"),
        (_claims.equal("t", -0.0, 0.0, 0.0), "0", "0 ± 0"),
        (_claims.at_most("t", math.nan, 1.0), "nan", "≤ 1"),
        (_claims.at_most("t", math.inf, 1.0), "inf", "≤ 1"),
        (_claims.at_least("t", math.inf, 1.0), "inf", "≥ 1"),
        (_claims.equal("t", math.nan, 1.0, 0.1), "nan", "1 ± 0.1"),
        (_claims.equal("t", math.inf, 1.0, 0.1), "inf", "1 ± 0.1"),
        (_claims.between("t", math.nan, 0.0, 1.0), "nan", "0 … 1"),
    ],
)
def test_numbers_are_shown_in_digits_that_decide(claim, shown, threshold):
    assert (claim.shown, claim.threshold) == (shown, threshold)


def test_digits_are_few_where_few_decide():
    assert _digits.show(0.123456789) == "0.12346"
    assert _digits.against_limits(0.123456789, (0.2,), operator.le) == ("0.12346", "0.2")
