"""The curvature of a loss around a network, with error bars.

* `linear_map`: any symmetric linear function as an `Operator`.
* `Estimate`: numbers with their standard errors.
"""

from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.operator import Operator, linear_map

__all__ = ["Estimate", "Operator", "linear_map"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
