"""Conjugate gradients for symmetric systems, turning to the normal equations where they must."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.linalg.solution import LinearSolution, Matvec, VectorLike, floating
from jaxopt_tut.types import Number, Scalar
from jaxopt_tut.vectors import dot, safe_ratio

PATIENCE = 64
"""Products without a new smallest residual after which a solve counts as stalled."""


def cg(
    matvec: Matvec, b: VectorLike, *, tol: Number, max_steps: int, turn: bool = False
) -> LinearSolution:
    r"""Solve a symmetric positive definite system by conjugate gradients.

    $$\alpha_k = \frac{r_k^T r_k}{p_k^T A p_k}, \quad x_{k+1} = x_k + \alpha_k p_k, \quad
    r_{k+1} = r_k - \alpha_k A p_k, \quad
    p_{k+1} = r_{k+1} + \frac{r_{k+1}^T r_{k+1}}{r_k^T r_k}\, p_k$$

    from $x_0 = 0$. One product a step and three vectors besides $b$; about
    $\tfrac12 \sqrt\kappa\, \ln(2/\epsilon)$ steps. It ends at a direction with $p^T A p \le 0$ (up
    to rounding), where the matrix is not definite, and where 64 products have brought no smaller
    residual. With `turn` it goes on from there by conjugate gradients on $A^2 x = A b$, two
    products a step, in the same loop and the same memory: that needs no definite matrix, and in a
    singular system leads to the shortest solution of least squares.

    Args:
      matvec: Multiplies by the symmetric matrix $A$.
      b: The right-hand side.
      tol: Norm of the residual at which to stop, relative to that of `b`.
      max_steps: Products at most.
      turn: Whether to go on with the normal equations.

    Returns:
      The solution.

    Example:
      >>> import jax.numpy as jnp
      >>> diagonal, b = jnp.array([1.0, 4.0, -2.0]), jnp.array([1.0, 4.0, 4.0])
      >>> definite = cg(lambda v: jnp.abs(diagonal) * v, b, tol=1e-6, max_steps=9)
      >>> print(definite.x.round(4), definite.num_products, definite.is_definite)
      [1. 1. 2.] 3 True
      >>> turned = cg(lambda v: diagonal * v, b, tol=1e-6, max_steps=99, turn=True)
      >>> print(turned.x.round(4), turned.is_definite)
      [ 1.  1. -2.] False

    References:
      Hestenes and Stiefel (1952), eqs. (3:1) and (10:2). https://doi.org/10.6028/jres.049.044
    """
    b = floating(b)
    first_squared = dot(b, b)
    goal = jnp.asarray(tol, b.dtype) * jnp.sqrt(first_squared)
    # where a stall is merely the end of what rounding allows, turning would gain nothing
    rounding = 8 * jnp.asarray(jnp.finfo(b.dtype).eps, b.dtype)
    hopeless = jnp.sqrt(rounding) * jnp.sqrt(first_squared)

    def advance(s: _State) -> _State:
        # what a turn does, in every phase; the phase decides which of it is kept
        plain, transposed = s.phase == _PLAIN, s.phase == _TRANSPOSED
        product = matvec(jnp.where(transposed, s.residual, s.direction))
        # q^T q stands where p^T A p does once the equations are A A x = A b with q = A p
        curvature = dot(jnp.where(plain, s.direction, product), product)
        # a curvature within the rounding of the largest one met is none
        length_squared = dot(s.direction, s.direction)
        ratio = jnp.sqrt(dot(product, product) / jnp.where(length_squared > 0, length_squared, 1))
        largest = jnp.where(plain, jnp.maximum(s.largest, ratio), s.largest)
        is_convex = curvature > jnp.where(plain, rounding * largest * length_squared, 0)
        moves = is_convex & ~transposed
        # x and the residual: a transposed turn only looks, and moves by 0
        length = safe_ratio(s.squared, curvature, where=moves)
        residual = s.residual - length * product
        # the next direction: a forward turn keeps it, as its gradient is not known yet
        gradient = jnp.where(transposed, product, residual)
        squared = jnp.where(s.phase == _FORWARD, s.squared, dot(gradient, gradient))
        ratio = safe_ratio(squared, s.squared, where=s.squared > 0)
        direction = jnp.where(s.phase == _FORWARD, s.direction, gradient + ratio * s.direction)
        # whether to go on: with more of the same, with the other method, or not at all
        norm = jnp.sqrt(dot(residual, residual))
        is_better = norm < 0.999 * s.best
        best_at = jnp.where(is_better, s.count, s.best_at)
        stalled = s.count - best_at >= PATIENCE
        leaves = plain & (~is_convex | (stalled & (norm > hopeless)))
        stays = ~leaves if turn else jnp.ones((), bool)
        # a residual in the null space, up to rounding, is that of least squares
        ends = leaves if not turn else transposed & (jnp.sqrt(squared) <= rounding * largest * norm)
        # the normal equations go on from where conjugate gradients have come to; from zero if that
        # is nearer, or if the matrix is singular, where they have moved along its null space
        is_flat = ~is_convex & (curvature >= -rounding * largest * length_squared)
        restarts = ~stays & ((norm > jnp.sqrt(first_squared)) | is_flat)
        x = jnp.where(restarts, 0, s.x + length * s.direction)
        residual = jnp.where(restarts, b, residual)
        norm = jnp.where(restarts, jnp.sqrt(first_squared), norm)
        return _State(
            x=x,
            residual=residual,
            direction=jnp.where(stays, direction, 0),
            squared=jnp.where(stays, squared, 0),
            phase=jnp.where(
                plain & stays, _PLAIN, jnp.where(transposed, _FORWARD, _TRANSPOSED)
            ).astype(jnp.int32),
            count=s.count + 1,
            best=jnp.where(is_better | ~stays, norm, s.best),
            best_at=jnp.where(stays, best_at, s.count),
            largest=largest,
            is_definite=s.is_definite & (is_convex | ~plain),
            done=~(norm > goal) | (stalled & stays) | ends | ~jnp.isfinite(norm),
        )

    zero = jnp.zeros((), jnp.int32)
    first = _State(
        x=jnp.zeros_like(b),
        residual=b,
        direction=b,
        squared=first_squared,
        phase=zero + _PLAIN,
        count=zero,
        best=jnp.sqrt(first_squared),
        best_at=zero,
        largest=jnp.zeros_like(first_squared),
        is_definite=jnp.ones((), bool),
        done=~(first_squared > 0) | ~jnp.isfinite(first_squared),
    )
    limit = counts.as_limit(max_steps)
    last = control_flow.while_loop(lambda s: ~s.done & (s.count < limit), advance, first)
    norm = jnp.sqrt(dot(last.residual, last.residual))
    # what is not finite must not look like the solution 0
    x = jnp.where(jnp.isfinite(first_squared) & jnp.isfinite(norm), last.x, jnp.nan)
    return LinearSolution(x, norm, last.count, last.is_definite)


# Three phases, so that one loop with one product a turn does for both methods. Plain: conjugate
# gradients on A x = b. Where they cannot go on, the normal equations A A x = A b take two turns a
# step: transposed, s = A r, from which the next direction comes, and forward, q = A p, which moves
# x and the residual along it. In the second method `squared` is s^T s, in the first r^T r.
_PLAIN, _FORWARD, _TRANSPOSED = 0, 1, 2


class _State(NamedTuple):
    x: Float[Array, "dim"]
    residual: Float[Array, "dim"]
    direction: Float[Array, "dim"]
    squared: Scalar  # norm of the residual, or of A times it
    phase: Int[Array, ""]
    count: Int[Array, ""]
    best: Scalar
    best_at: Int[Array, ""]
    largest: Scalar  # ratio of the norms of A p and p
    is_definite: Bool[Array, ""]
    done: Bool[Array, ""]
