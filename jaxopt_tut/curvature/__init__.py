"""The curvature of a loss around a network, with error bars.

* `linear_map`: any symmetric linear function as an `Operator`.
* `Estimate`: numbers with their standard errors.
* `sharpness`: one number, of the kinds `Ascent`, `AverageCase`, `Critical`, or one of your own
  (`SharpnessKind`, which is handed a `LossAround`).
* `stability_limit`: the sharpness above which an optimizer diverges.
"""

from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.flatness import (
    Ascent,
    AverageCase,
    Critical,
    LossAround,
    SharpnessKind,
    sharpness,
    stability_limit,
)
from jaxopt_tut.curvature.operator import Operator, linear_map

__all__ = [
    "Ascent",
    "AverageCase",
    "Critical",
    "Estimate",
    "LossAround",
    "Operator",
    "SharpnessKind",
    "linear_map",
    "sharpness",
    "stability_limit",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
