"""Whether an operator is one: products that do not belong to one symmetric matrix."""

import jax

from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.keys import require_key
from jaxopt_tut.types import PRNGKey, Scalar
from jaxopt_tut.vectors import dot, norm, safe_ratio


def symmetry_error(op: Operator, key: PRNGKey) -> Scalar:
    r"""Return how far two products are from being those of one symmetric matrix.

    $$\frac{2\, |u^\top H v - v^\top H u|}{\lVert H u \rVert + \lVert H v \rVert}, \qquad
      u, v \sim N(0, I)$$

    Of the order of rounding for a Hessian. Of the order of 1 if its function draws fresh numbers:
    when it runs (batches augmented anew on the host, a callback), or when it is traced, which is
    done once more for the second product, so that numbers drawn by NumPy within a loss are found.
    Costs two products and, for functions of users, a compilation.

    Args:
      op: An operator.
      key: For the two vectors.

    Returns:
      The relative error; 0 if both products are zero.

    Raises:
      TypeError: If `key` is not one key.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.curvature import linear_map
      >>> twist = linear_map(lambda v: jnp.array([v[1], -v[0]]), jnp.zeros(2))
      >>> print(bool(symmetry_error(twist, jax.random.key(0)) > 0.1))
      True
    """
    require_key("symmetry_error", key)
    u, v = jax.random.normal(key, (2, op.size), op.dtype)
    first, second = op._product(v), op.retraced()._product(u)
    sizes = (norm(first) + norm(second)) / 2
    return safe_ratio(abs(dot(u, first) - dot(v, second)), sizes)
