"""Claims with their verdicts: what an experiment's `check` returns."""

import math
from typing import Any, NamedTuple


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

    @property
    def verdict(self) -> str:
        """One of `holds`, `fails` and `differs from the original: …`."""
        if not self.holds:
            return "fails"
        return f"differs from the original: {self.original}" if self.original else "holds"

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "verdict": self.verdict}


def at_most(text: str, measured: float, limit: float, **options) -> Claim:
    """State that a number is at most the limit; NaN never is."""
    return Claim(text, float(measured), f"≤ {limit:.4g}", bool(measured <= limit), **options)


def at_least(text: str, measured: float, limit: float, **options) -> Claim:
    """State that a number is at least the limit; NaN never is."""
    return Claim(text, float(measured), f"≥ {limit:.4g}", bool(measured >= limit), **options)


def between(text: str, measured: float, low: float, high: float, **options) -> Claim:
    """State that a number lies between two others; NaN never does."""
    inside = bool(low <= measured <= high)
    return Claim(text, float(measured), f"{low:.4g} … {high:.4g}", inside, **options)


def equal(text: str, measured: float, expected: float, tolerance: float, **options) -> Claim:
    """State that a number is another one up to a tolerance; NaN never is."""
    near = bool(math.fabs(measured - expected) <= tolerance)
    return Claim(text, float(measured), f"{expected:.6g} ± {tolerance:.2g}", near, **options)
