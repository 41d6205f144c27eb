"""What is wrong with a network, in which layer, why, and what to do about it.

* `diagnose`: statistics of every layer and verdicts on them; `report` makes text of both.
* `first_nonfinite`: the operation that makes the first NaN or infinity.
* Dear, and so on request: `exact_statistics` (quantiles, `effective_rank`), `gradient_noise`,
  `jacobian_singular_values`.
* `statistics`: the array part of it, to be used inside `jit`; `summarize` for one array.

A layer is a weight that meets data, found in the program of any loss function.
"""

from jaxopt_tut.diagnostics.diagnosis import Diagnosis, diagnose
from jaxopt_tut.diagnostics.exact import ExactStatistics, effective_rank, exact_statistics
from jaxopt_tut.diagnostics.jacobian import jacobian_singular_values
from jaxopt_tut.diagnostics.judging.thresholds import THRESHOLDS, Thresholds
from jaxopt_tut.diagnostics.judging.verdicts import Verdict
from jaxopt_tut.diagnostics.measuring.results import LayerStatistics, Statistics
from jaxopt_tut.diagnostics.measuring.statistics import statistics
from jaxopt_tut.diagnostics.measuring.summaries import Histogram, Summary, summarize
from jaxopt_tut.diagnostics.noise import GradientNoise, LeafNoise, gradient_noise
from jaxopt_tut.diagnostics.nonfinite.search import first_nonfinite
from jaxopt_tut.diagnostics.reporting import report

__all__ = [
    "THRESHOLDS",
    "Diagnosis",
    "ExactStatistics",
    "GradientNoise",
    "Histogram",
    "LayerStatistics",
    "LeafNoise",
    "Statistics",
    "Summary",
    "Thresholds",
    "Verdict",
    "diagnose",
    "effective_rank",
    "exact_statistics",
    "first_nonfinite",
    "gradient_noise",
    "jacobian_singular_values",
    "report",
    "statistics",
    "summarize",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
