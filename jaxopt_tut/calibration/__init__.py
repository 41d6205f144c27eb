"""Initialization that calibrates itself on the network and its data.

* `auto_init`: the scale of every weight, from the program around it.
* `lsuv`: scales from the data, layer by layer.
* `metainit`, `gradinit`: scales found by descent, for any loss.
* `width_axes`, `mup_multipliers`, `coordinate_check`: carry a learning rate to another width.

The first four are `(key, fn, params, batch) -> (params, CalibrationReport)`.
"""

from jaxopt_tut.calibration.automatic import auto_init
from jaxopt_tut.calibration.gradinit import gradinit
from jaxopt_tut.calibration.lsuv import lsuv
from jaxopt_tut.calibration.metainit import metainit
from jaxopt_tut.calibration.reports import CalibrationReport, LayerCalibration
from jaxopt_tut.calibration.width import (
    CoordinateCheck,
    MupMultipliers,
    coordinate_check,
    mup_multipliers,
    width_axes,
)

__all__ = [
    "CalibrationReport",
    "CoordinateCheck",
    "LayerCalibration",
    "MupMultipliers",
    "auto_init",
    "coordinate_check",
    "gradinit",
    "lsuv",
    "metainit",
    "mup_multipliers",
    "width_axes",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
