"""Sweeps: every configuration with every key, in a few programs.

Inner to `training`, whose public names are in its own `__init__`.
"""

from jaxopt_tut.training.sweeps.axes import Choice, LogUniform, Uniform, grid, sample
from jaxopt_tut.training.sweeps.halving import Halving, halving
from jaxopt_tut.training.sweeps.result import Best, Sweep
from jaxopt_tut.training.sweeps.strategies import Map, Vmap
from jaxopt_tut.training.sweeps.sweeping import sweep

__all__ = [
    "Best",
    "Choice",
    "Halving",
    "LogUniform",
    "Map",
    "Sweep",
    "Uniform",
    "Vmap",
    "grid",
    "halving",
    "sample",
    "sweep",
]
