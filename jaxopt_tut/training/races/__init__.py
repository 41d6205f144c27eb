"""Optimizers on the same problems, from the same starts, on the same batches.

* `race`: every optimizer at every rate on every problem.
* `Problem`: what they race on; `problems`: six small ones.
* `RaceTable`: every loss of a race, and what is needed to judge it.
* `Times`, `Profiles`, `Scores`, `Confidence`, `Comparison`, `Sensitivity`, `TuningCost`: what its
  methods return.
* `sign_flip_p_values`, `holm`, `smallest_p_value`: the tests of `compare`, for any differences.
"""

from jaxopt_tut.training.races import problems
from jaxopt_tut.training.races.comparison import Comparison
from jaxopt_tut.training.races.confidence import Confidence
from jaxopt_tut.training.races.problem import Problem
from jaxopt_tut.training.races.profiles import Profiles
from jaxopt_tut.training.races.running import race
from jaxopt_tut.training.races.scores import Scores
from jaxopt_tut.training.races.sensitivity import Sensitivity
from jaxopt_tut.training.races.sign_flips import holm, sign_flip_p_values, smallest_p_value
from jaxopt_tut.training.races.table import RaceTable
from jaxopt_tut.training.races.times import Times
from jaxopt_tut.training.races.tuning_cost import TuningCost

__all__ = [
    "Comparison",
    "Confidence",
    "Problem",
    "Profiles",
    "RaceTable",
    "Scores",
    "Sensitivity",
    "Times",
    "TuningCost",
    "holm",
    "problems",
    "race",
    "sign_flip_p_values",
    "smallest_p_value",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
