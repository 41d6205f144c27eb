"""Compiled training runs.

* `fit`: train on data that stays on the device, one donated program a step.
* `evaluator`: metrics over a whole data set, for `fit(..., evaluate=)`.
* `Aux`: what a loss with metrics or model state returns beside its value.
* `compilation_cache`: keep compiled programs on disk between processes.
"""

from jaxopt_tut.training.compilation import compilation_cache
from jaxopt_tut.training.evaluation import evaluator
from jaxopt_tut.training.fitting import fit
from jaxopt_tut.training.history import History
from jaxopt_tut.training.losses import Aux
from jaxopt_tut.training.result import FitResult

__all__ = ["Aux", "FitResult", "History", "compilation_cache", "evaluator", "fit"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
