"""The inner face of `optimizers`: what the rooms built on it need beyond `step` and `minimize`.

Other rooms import these names from here; nothing about them is promised to users.
"""

from jaxopt_tut.optimizers.extra_arguments import is_transformation, require_optimizer
from jaxopt_tut.optimizers.norms import modulus
from jaxopt_tut.optimizers.robust_losses import RobustSquares
from jaxopt_tut.optimizers.stationarity import constraint, projected_gradient, projections_of
from jaxopt_tut.optimizers.step import take_step, updated

__all__ = [
    "RobustSquares",
    "constraint",
    "is_transformation",
    "modulus",
    "projected_gradient",
    "projections_of",
    "require_optimizer",
    "take_step",
    "updated",
]
