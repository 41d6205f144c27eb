"""Quantiles that intervals around estimates are made of, on the host."""

import math
from statistics import NormalDist

import numpy as np

__all__ = ["normal_quantile", "student_quantile"]


def normal_quantile(level: float) -> float:
    """Return the half width of the central interval of a normal variable."""
    return NormalDist().inv_cdf((1 + level) / 2)


def student_quantile(level: float, freedom: int) -> float:
    """Return the half width of the central interval of Student's t."""
    # With x = sqrt(n) tan(a) the density is proportional to cos(a)**(n - 1): a smooth integral over
    # a bounded interval, which the trapezoidal rule takes to its rounding.
    angles = np.linspace(0.0, np.pi / 2, 20_001)
    weights = np.cos(angles) ** (freedom - 1)
    masses = np.concatenate([[0.0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
    angle = np.interp(level * masses[-1], masses, angles)
    return float(math.sqrt(freedom) * math.tan(angle))
