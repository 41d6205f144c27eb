"""Numbers with the digits that decide: what is shown fails or holds as the numbers do."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

FEWEST, MOST = 5, 8
"""Digits of a number: usual ones, and those beyond which the distance says more."""
EXACT = 17
"""Digits that tell any two float64 apart."""


def show(number: float, digits: int = FEWEST) -> str:
    """Write a number with that many digits; whole ones below ten millions have all of theirs."""
    if float(number).is_integer() and math.fabs(number) < 1e7:
        return f"{number + 0.0:.0f}"  # the sum has no -0
    return f"{number:.{digits}g}"


def against_limits(
    measured: float, limits: tuple[float, ...], holds: Callable[..., bool]
) -> tuple[str, ...]:
    """Write a number and the limits that it is held against so that both tell who is larger.

    Args:
      measured: The number.
      limits: One or several.
      holds: Says of a number and the limits whether the claim holds.

    Returns:
      The number and each limit. Where more than eight digits would be needed the number is said to
      be so much `above` or `below` the limit that is nearest.
    """
    numbers = (measured, *limits)
    if any(math.isnan(number) for number in numbers):
        return tuple(show(number) for number in numbers)
    verdict = holds(*numbers)
    for digits in range(FEWEST, MOST + 1):
        # a limit such as .05 needs no more digits than it has; one of 1/3 is cut as it always was
        for fewer in (digits - 1, digits):
            said = (show(measured, digits), *(show(limit, fewer) for limit in limits))
            first, *others = map(Decimal, said)
            apart = all(
                (first == o) == (measured == n) for o, n in zip(others, limits, strict=True)
            )
            if apart and holds(first, *others) == verdict:
                return said
    if measured in limits:  # which lie closer to each other
        return tuple(show(number, EXACT) for number in numbers)
    nearest = min(limits, key=lambda limit: math.fabs(measured - limit))
    side = "above" if measured > nearest else "below"
    said = tuple(show(limit, digits_apart(limits)) for limit in limits)
    return (f"{math.fabs(measured - nearest):.2g} {side} {said[limits.index(nearest)]}", *said)


def digits_apart(numbers: tuple[float, ...]) -> int:
    """Return the least number of digits, four or more, by which different numbers differ."""
    for digits in range(FEWEST - 1, EXACT):
        if len({show(number, digits) for number in numbers}) == len(set(numbers)):
            return digits
    return EXACT


def against_tolerance(measured: float, expected: float, tolerance: float) -> tuple[str, str, str]:
    """Write a number, the one that it should be, and by how much it may be off.

    Args:
      measured: The number.
      expected: What it should be.
      tolerance: What it may be off by.

    Returns:
      The three; where the digits of the first two would not reach the tolerance the first says how
      much it is `off by`.
    """
    numbers = (measured, expected, tolerance)
    if not all(map(math.isfinite, numbers)):
        return show(measured), show(expected, FEWEST + 1), f"{tolerance:.2g}"
    distance = math.fabs(measured - expected)
    verdict = distance <= tolerance
    for digits in range(FEWEST, MOST):
        said = show(measured, digits), show(expected, digits + 1), f"{tolerance:.2g}"
        first, second, third = map(Fraction, said)
        whole = first == measured and second == expected and tolerance == 0 == measured % 1
        # digits that end above the tolerance would say nothing by being equal
        reach = 10 * max(_last_place(measured, digits), _last_place(expected, digits + 1))
        if (whole or reach <= tolerance) and (abs(first - second) <= third) == verdict:
            return said
    for digits in range(2, EXACT + 1):
        off, allowed = f"{distance:.{digits}g}", f"{tolerance:.{digits}g}"
        apart = (float(off) == float(allowed)) == (distance == tolerance)
        if apart and (float(off) <= float(allowed)) == verdict:
            break
    return f"off by {off}", show(expected, FEWEST + 1), allowed


def _last_place(number: float, digits: int) -> float:
    """Return what one more in the last of so many digits adds."""
    return 10.0 ** (math.floor(math.log10(math.fabs(number))) + 1 - digits) if number else 0.0
