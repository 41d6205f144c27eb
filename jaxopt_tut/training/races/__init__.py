"""Optimizers on the same problems, from the same starts, on the same batches.

* `RaceTable`: every loss of a race, and what is needed to judge it.
* `Times`, `Profiles`, `Scores`, `Confidence`, `Comparison`, `Sensitivity`, `TuningCost`: what its
  methods return.
"""

from jaxopt_tut.training.races.comparison import Comparison
from jaxopt_tut.training.races.confidence import Confidence
from jaxopt_tut.training.races.profiles import Profiles
from jaxopt_tut.training.races.scores import Scores
from jaxopt_tut.training.races.sensitivity import Sensitivity
from jaxopt_tut.training.races.table import RaceTable
from jaxopt_tut.training.races.times import Times
from jaxopt_tut.training.races.tuning_cost import TuningCost

__all__ = [
    "Comparison",
    "Confidence",
    "Profiles",
    "RaceTable",
    "Scores",
    "Sensitivity",
    "Times",
    "TuningCost",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
