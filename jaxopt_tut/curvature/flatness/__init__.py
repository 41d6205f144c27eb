"""How sharp or flat a minimum is: one number, in several senses.

Inner to `curvature`, whose public names are in its own `__init__`.
"""

from jaxopt_tut.curvature.flatness.around import LossAround, SharpnessKind
from jaxopt_tut.curvature.flatness.ascent import Ascent
from jaxopt_tut.curvature.flatness.average_case import AverageCase
from jaxopt_tut.curvature.flatness.critical import Critical
from jaxopt_tut.curvature.flatness.largest_eigenvalue import LargestEigenvalue
from jaxopt_tut.curvature.flatness.measuring import sharpness
from jaxopt_tut.curvature.flatness.stability import stability_limit

__all__ = [
    "Ascent",
    "AverageCase",
    "Critical",
    "LargestEigenvalue",
    "LossAround",
    "SharpnessKind",
    "sharpness",
    "stability_limit",
]
