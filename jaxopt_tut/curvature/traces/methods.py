"""What a method is that estimates a trace."""

from typing import ClassVar, Protocol, runtime_checkable

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

    Example:
      >>> from dataclasses import dataclass
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.curvature import linear_map, trace
      >>> @dataclass(frozen=True)
      ... class FirstRows:
      ...     fewest = 2
      ...
      ...     def estimate(self, op, key, num_products):
      ...         rows = jnp.eye(op.size)[:num_products]
      ...         samples = op.size * jnp.sum(rows * op.matmat(rows), axis=1)
      ...         sem = jnp.std(samples, ddof=1) / num_products**0.5
      ...         return Estimate(jnp.mean(samples), sem, num_products - 1)
      >>> op = linear_map(lambda v: 2 * v, jnp.zeros(50))
      >>> print(trace(op, jax.random.key(0), num_products=3, method=FirstRows()).mean)
      100.0
    """

    fewest: ClassVar[int]

    def estimate(self, op: Operator, key: PRNGKey, num_products: int) -> Estimate:
        """Estimate the trace from that many products at most, by `op.matvec` or `op.matmat`."""
        ...
