"""Conjugate gradients on the normal equations: for any system, square or not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.linalg.cg import PATIENCE
from jaxopt_tut.linalg.solution import LinearSolution, Matvec, VectorLike, floating
from jaxopt_tut.types import Number, Scalar
from jaxopt_tut.vectors import dot


def normal_cg(
    matvec: Matvec,
    b: VectorLike,
    *,
    tol: Number,
    max_steps: int,
    vecmat: Matvec | None = None,
) -> LinearSolution:
    r"""Solve any linear system by conjugate gradients on its normal equations.

    $$A^T A\, x = A^T b: \qquad \alpha_k = \frac{s_k^T s_k}{q_k^T q_k}, \quad q_k = A p_k, \quad
    s_k = A^T r_k, \quad p_{k+1} = s_{k+1} + \frac{s_{k+1}^T s_{k+1}}{s_k^T s_k}\, p_k$$

    from $x_0 = 0$: indefinite, singular and not symmetric systems too; where there are many
    solutions, or none, it approaches the shortest of least squares. Two products a step, and about
    $\tfrac12 \kappa \ln(2/\epsilon)$ steps: the square of what `cg` needs.

    Args:
      matvec: Multiplies by $A$.
      b: The right-hand side.
      tol: Norm of the residual at which to stop, relative to that of `b`; for a system without
        solution also that of $A^T r$, relative to $A^T b$.
      max_steps: Products at most.
      vecmat: Multiplies by $A^T$; `None` transposes `matvec`, which is then square.

    Returns:
      The solution; `is_definite` is always true, as nothing depends on it.

    Example:
      >>> import jax.numpy as jnp
      >>> a = jnp.array([[0.0, 2.0], [-1.0, 0.0]])
      >>> solution = normal_cg(lambda v: a @ v, jnp.array([4.0, 3.0]), tol=1e-6, max_steps=9)
      >>> print(solution.x.round(4))
      [-3.  2.]

    References:
      Hestenes and Stiefel (1952), eq. (10:2). https://doi.org/10.6028/jres.049.044
    """
    b = floating(b)
    if vecmat is None:
        transpose = jax.linear_transpose(matvec, b)
        vecmat = lambda v: transpose(v)[0]
    gradient = vecmat(b)
    squared, size = dot(gradient, gradient), jnp.sqrt(dot(b, b))
    tol = jnp.asarray(tol, b.dtype)
    goal, flat = tol * size, tol**2 * squared

    def advance(s: _State) -> _State:
        product = matvec(s.direction)
        curvature = dot(product, product)
        length = s.squared / jnp.where(curvature > 0, curvature, 1)
        residual = s.residual - length * product
        gradient = vecmat(residual)
        squared = dot(gradient, gradient)
        norm = jnp.sqrt(dot(residual, residual))
        is_better = norm < 0.999 * s.best
        best_at = jnp.where(is_better, s.count, s.best_at)
        return _State(
            x=s.x + length * s.direction,
            residual=residual,
            direction=gradient + squared / jnp.where(s.squared > 0, s.squared, 1) * s.direction,
            squared=squared,
            count=s.count + 2,
            best=jnp.where(is_better, norm, s.best),
            best_at=best_at,
            done=~(norm > goal) | (squared <= flat) | (s.count - best_at >= 2 * PATIENCE),
        )

    zero = jnp.zeros((), jnp.int32)
    first = _State(
        x=jnp.zeros_like(gradient),
        residual=b,
        direction=gradient,
        squared=squared,
        count=zero,
        best=size,
        best_at=zero,
        done=~(squared > 0) | ~jnp.isfinite(squared),
    )
    limit = counts.as_limit(max_steps)
    last = control_flow.while_loop(lambda s: ~s.done & (s.count < limit), advance, first)
    norm = jnp.sqrt(dot(last.residual, last.residual))
    x = jnp.where(jnp.isfinite(squared) & jnp.isfinite(norm), last.x, jnp.nan)
    return LinearSolution(x, norm, last.count, jnp.ones((), bool))


class _State(NamedTuple):
    x: Float[Array, "dim"]
    residual: Float[Array, "rows"]
    direction: Float[Array, "dim"]
    squared: Scalar  # norm of A^T r
    count: Int[Array, ""]
    best: Scalar
    best_at: Int[Array, ""]
    done: Bool[Array, ""]
