"""The inverse of a matrix by a truncated series, and the largest eigenvalue that scales it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.linalg.solution import Matvec, VectorLike, floating
from jaxopt_tut.types import Number, Scalar


def neumann(
    matvec: Matvec, b: VectorLike, *, num_terms: int, step_size: Number
) -> Float[Array, "dim"]:
    r"""Approximate a solution by the first terms of the Neumann series.

    $$x = \alpha \sum_{j=0}^{k-1} (I - \alpha A)^j\, b, \qquad
    A x - b = -(I - \alpha A)^k\, b$$

    that is, $k$ steps of gradient descent from 0. It converges for $0 < \alpha < 2/\lambda_{\max}$
    if $A$ is positive definite. $k - 1$ products; the error is known, linear in $b$, and shrinks
    parts of large curvature first, as an inner run that has not converged does.

    Args:
      matvec: Multiplies by $A$.
      b: The right-hand side.
      num_terms: $k \ge 1$.
      step_size: $\alpha$.

    Returns:
      $x$.

    Example:
      >>> import jax.numpy as jnp
      >>> print(neumann(lambda v: 2.0 * v, jnp.array([1.0]), num_terms=3, step_size=0.25))
      [0.4375]

    References:
      Lorraine et al. (2020), eq. (6). https://arxiv.org/abs/1911.02590
    """
    b = floating(b)
    alpha = jnp.asarray(step_size, b.dtype)

    def add(carry, _):
        total, term = carry
        term = term - alpha * matvec(term)
        return (total + term, term), None

    (total, _), _ = control_flow.scan(add, (b, b), length=num_terms - 1)
    return alpha * total


def largest_eigenvalue(matvec: Matvec, like: VectorLike, *, num_steps: int) -> Scalar:
    r"""Estimate the largest absolute eigenvalue of a symmetric matrix from below.

    $$\hat\lambda = \lVert A v_k \rVert, \qquad v_{k+1} = A v_k / \lVert A v_k \rVert$$

    from a fixed start that is orthogonal to no simple vector. One product a step.

    Args:
      matvec: Multiplies by $A$.
      like: A vector of the right size and dtype.
      num_steps: $k$.

    Returns:
      $\hat\lambda$.

    Example:
      >>> import jax.numpy as jnp
      >>> diagonal = jnp.array([1.0, -5.0, 2.0])
      >>> print(largest_eigenvalue(lambda v: diagonal * v, diagonal, num_steps=20).round(4))
      5.0

    References:
      Golub and Van Loan (2013), section 7.3.1.
    """
    like = floating(like)
    start = jnp.cos(1 + jnp.arange(like.size, dtype=like.dtype) ** 2)

    def multiply(carry, _):
        vector, _ = carry
        product = matvec(vector)
        norm = jnp.sqrt(jnp.sum(product**2))
        return (product / jnp.where(norm > 0, norm, 1), norm), None

    scaled = start / jnp.sqrt(jnp.maximum(jnp.sum(start**2), jnp.finfo(like.dtype).tiny))
    return control_flow.scan(multiply, (scaled, jnp.zeros((), like.dtype)), length=num_steps)[0][1]
