"""Claims with their verdicts: what an experiment's `check` returns."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments import _digits


class Claim(NamedTuple):
    """A sentence, the number that was measured and the threshold it was held against."""

    text: str
    measured: float
    threshold: str
    holds: bool
    required: bool = True
    """Whether the run counts as failed when this does not hold."""
    original: str = ""
    """What the tutorial says instead; empty where it agrees."""
    headline: bool = False
    """Whether this is the claim that the first line of the script's docstring states."""
    shown: str = ""
    """The number as it is shown beside the threshold, in digits that decide."""

    @property
    def verdict(self) -> str:
        """One of `holds`, `fails` and `differs from the original: …`."""
        if not self.holds:
            return "fails"
        return f"differs from the original: {self.original}" if self.original else "holds"

    @property
    def shown_number(self) -> str:
        """What was measured, in words or digits; older reports have no other digits than these."""
        return self.shown or _digits.show(self.measured)

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "shown": self.shown_number, "verdict": self.verdict}


def is_contradicted(claim: Claim) -> bool:
    """Say whether a number is NaN, or farther beyond its threshold than the digits leave open."""
    number = claim.measured
    # a limit is written in four digits or more, a tolerance in two and what it is about in six
    near = functools.partial(math.isclose, number, rel_tol=1e-3)
    try:
        match claim.threshold.split():
            case ["≤", high]:
                fits = number <= float(high) or near(float(high))
            case ["≥", low]:
                fits = number >= float(low) or near(float(low))
            case [low, "…", high]:
                limits = (float(low), float(high))
                fits = limits[0] <= number <= limits[1] or any(map(near, limits))
            case [goal, "±", off]:
                reach = 1.06 * float(off) + 1e-5 * math.fabs(float(goal))
                fits = math.fabs(number - float(goal)) <= reach
            case _:
                fits = True
    except ValueError:  # words instead of numbers
        fits = True
    return math.isnan(number) or not fits


def at_most(text: str, measured: float, limit: float, **options) -> Claim:
    """State that a number is at most the limit; NaN never is."""
    return _limited(text, measured, (limit,), "≤ {}", operator.le, options)


def at_least(text: str, measured: float, limit: float, **options) -> Claim:
    """State that a number is at least the limit; NaN never is."""
    return _limited(text, measured, (limit,), "≥ {}", operator.ge, options)


def between(text: str, measured: float, low: float, high: float, **options) -> Claim:
    """State that a number lies between two others; NaN never does."""
    return _limited(text, measured, (low, high), "{} … {}", _is_between, options)


def equal(text: str, measured: float, expected: float, tolerance: float, **options) -> Claim:
    """State that a number is another one up to a tolerance; NaN never is."""
    numbers = (float(measured), float(expected), float(tolerance))
    near = bool(math.fabs(numbers[0] - numbers[1]) <= numbers[2])
    shown, goal, allowed = _digits.against_tolerance(*numbers)
    return Claim(text, numbers[0], f"{goal} ± {allowed}", near, shown=shown, **options)


def _limited(
    text: str,
    measured: float,
    limits: tuple[float, ...],
    form: str,
    holds: Callable[..., bool],
    options: dict[str, Any],
) -> Claim:
    limits = tuple(map(float, limits))
    shown, *said = _digits.against_limits(float(measured), limits, holds)
    inside = bool(holds(float(measured), *limits))
    return Claim(text, float(measured), form.format(*said), inside, shown=shown, **options)


def _is_between(number: float, low: float, high: float) -> bool:
    return low <= number <= high
