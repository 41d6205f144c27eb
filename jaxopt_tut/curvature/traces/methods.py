"""What a method is that estimates a trace."""

from typing import Protocol, runtime_checkable

from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.types import PRNGKey


@runtime_checkable
class TraceMethod(Protocol):
    """What `trace` takes as a method: any value with these two, a frozen dataclass for instance.

    `trace` has checked by then that `fewest <= num_products < op.size`; what has no more rows than
    there may be products, it sums itself.

    Attributes:
      fewest: The smallest number of products that gives a standard error.
    """

    fewest: int

    def estimate(self, op: Operator, key: PRNGKey, num_products: int) -> Estimate:
        """Estimate the trace from that many products at most, by `op.matvec` or `op.matmat`."""
        ...
