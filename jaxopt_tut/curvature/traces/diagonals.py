"""The diagonal of an operator."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.curvature.eigenpairs import check_operator
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.operator import Flat, Operator
from jaxopt_tut.curvature.traces.estimators import require_products
from jaxopt_tut.curvature.traces.probing import fold, no_basis, signs
from jaxopt_tut.keys import require_key
from jaxopt_tut.types import PRNGKey
from jaxopt_tut.vectors import safe_root


def diagonal(op: Operator, key: PRNGKey, *, num_products: int = 100) -> Estimate:
    r"""Estimate the diagonal of an operator, each entry with its standard error.

    $$\operatorname{diag} A \approx \frac1k \sum_i z_i \odot A z_i, \qquad z_{ij} = \pm 1$$

    The variance of an entry is $1/k$ of the sum of squares of its row without it: exact for
    diagonal operators, poor where entries are small beside their row. Memory: a few vectors.

    Args:
      op: The operator.
      key: Key of the probes.
      num_products: Products k, at least 2. With as many as the operator has rows, or more, the
        diagonal is exact from that many.

    Returns:
      The entries as a flat vector (`op.unravel` makes a tree of it), and their standard errors: 0
      where exact.

    Raises:
      TypeError: If `op` is no operator, `key` not one key, or `num_products` no whole number.
      ValueError: If it is below 2.

    Example:
      >>> from jaxopt_tut.curvature import linear_map
      >>> op = linear_map(lambda v, a: a * v, jnp.zeros(500), jnp.arange(500.0))
      >>> found = diagonal(op, jax.random.key(0), num_products=2)
      >>> print(found.mean[:4])
      [0. 1. 2. 3.]

    References:
      Bekas, Kokiopoulou, Saad (2007), An estimator for the diagonal of a matrix,
      https://doi.org/10.1016/j.apnum.2007.01.003
    """
    check_operator("diagonal", op)
    require_key("diagonal", key)
    count = require_products("diagonal", "", 2, num_products)
    if op.size <= count:
        entries = jnp.diagonal(op.to_dense())
        return Estimate(entries, jnp.zeros_like(entries))
    zero = jnp.zeros(op.size, op.dtype)
    start = jnp.zeros((), op.dtype), zero, jnp.zeros_like(zero)
    keys = jax.random.split(key, count)
    (_, mean, squares), _ = fold(op, _update, start, signs, keys, no_basis(op))
    return Estimate(mean, safe_root(squares / (count * (count - 1))), count - 1)


def _update(
    carry: tuple[Float[Array, ""], Flat, Flat], row: Flat, product: Flat
) -> tuple[tuple[Float[Array, ""], Flat, Flat], None]:
    """Take one more sample into means and sums of squared deviations (Welford)."""
    count, mean, squares = carry
    sample = row * product
    change = sample - mean
    mean = mean + change / (count + 1)
    return (count + 1, mean, squares + change * (sample - mean)), None
