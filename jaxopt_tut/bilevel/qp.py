"""Quadratic programs: solved by an interior point, differentiated by their KKT conditions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxopt_tut import control_flow

_EXACT = jax.lax.Precision.HIGHEST
_MAX_STEPS = 60


def qp(
    P: Float[Array, "dim dim"],
    q: Float[Array, "dim"],
    A: Float[Array, "equalities dim"] | None = None,
    b: Float[Array, "equalities"] | None = None,
    G: Float[Array, "inequalities dim"] | None = None,
    h: Float[Array, "inequalities"] | None = None,
) -> Float[Array, "dim"]:
    r"""Solve a convex quadratic program.

    $$\arg\min_x \tfrac12 x^T P x + q^T x \quad \text{subject to} \quad A x = b,\; G x \le h$$

    by a primal-dual interior point, all dense: some ten to twenty factorizations. Differentiable
    in all arguments, forwards, backwards and to any order, by the KKT conditions

    $$P x + q + A^T \nu + G^T \mu = 0, \quad A x = b, \quad \mu \odot (G x - h) = 0.$$

    The derivative does not exist where a constraint holds with equality and multiplier 0.

    Args:
      P: Symmetric, positive definite on the null space of $A$.
      q: The linear part.
      A: Equalities, of full row rank; or `None`.
      b: Their right-hand sides.
      G: Inequalities; or `None`.
      h: Their bounds.

    Returns:
      $x$; not a number where the iteration has not converged, as in a problem without a feasible
      point.

    Raises:
      ValueError: If shapes don't fit, or one of a pair `A`, `b` or `G`, `h` is missing.

    Example:
      The point nearest to (2, 1) with coordinates at most 1 and a sum of 1.5.

      >>> import jax.numpy as jnp
      >>> point, ones = jnp.array([2.0, 1.0]), jnp.ones((1, 2))
      >>> x = qp(jnp.eye(2), -point, ones, jnp.array([1.5]), jnp.eye(2), jnp.ones(2))
      >>> print(x.round(3))
      [1.  0.5]

    References:
      Mehrotra (1992), section 2. https://doi.org/10.1137/0802028
      Amos and Kolter (2017), eq. (6). https://arxiv.org/abs/1703.00443
    """
    dim = q.shape[0] if q.ndim == 1 else -1
    if P.shape != (dim, dim):
        raise ValueError(
            f"qp needs P (dim, dim) and q (dim,), got shapes {jnp.shape(P)} and {jnp.shape(q)}."
        )
    A, b = _constraints("A", "b", A, b, q)
    G, h = _constraints("G", "h", G, h, q)
    return _solve(_Program(P, q, A, b, G, h)).x


def _constraints(left: str, right: str, matrix, vector, q):
    if (matrix is None) != (vector is None):
        raise ValueError(f"qp needs both of {left} and {right} or neither, got one.")
    if matrix is None or vector is None:
        return jnp.zeros((0, q.size), q.dtype), jnp.zeros(0, q.dtype)
    if matrix.ndim != 2 or matrix.shape != (*vector.shape, q.size):
        raise ValueError(
            f"qp needs {left} (rows, {q.size}) and {right} (rows,), "
            f"got shapes {matrix.shape} and {vector.shape}."
        )
    return matrix, vector


class _Program(NamedTuple):
    P: Array
    q: Array
    A: Array
    b: Array
    G: Array
    h: Array


class _Point(NamedTuple):
    x: Array
    nu: Array  # of the equalities
    mu: Array  # of the inequalities
    slack: Array  # h - G x


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_EXACT)


@jax.custom_jvp
def _solve(program: _Program) -> _Point:
    """Follow the central path to its end."""
    P, q, A, b, G, h = program
    num_equal, num_unequal, dtype = b.size, h.size, q.dtype
    eps = float(np.finfo(dtype).eps)
    scale = 1 + jnp.max(jnp.abs(jnp.concatenate([q, b, h])))

    def residuals(p: _Point):
        dual = _dot(P, p.x) + q + _dot(A.T, p.nu) + _dot(G.T, p.mu)
        return dual, _dot(A, p.x) - b, _dot(G, p.x) + p.slack - h

    def error(p: _Point) -> Array:
        gap = jnp.max(p.mu * p.slack, initial=0.0)
        return jnp.maximum(gap, jnp.max(jnp.abs(jnp.concatenate(residuals(p))))) / scale

    def direction(p: _Point, complement: Array) -> _Point:
        """Return Newton's step towards `mu * slack - complement = 0` and no residuals."""
        dual, equal, unequal = residuals(p)
        weight = p.mu / p.slack
        hessian = P + _dot(G.T * weight, G)
        matrix = jnp.block([[hessian, A.T], [A, jnp.zeros((num_equal, num_equal), dtype)]])
        pull = _dot(G.T, weight * unequal - complement / p.slack)
        step = jnp.linalg.solve(matrix, jnp.concatenate([-dual - pull, -equal]))
        dx = step[: q.size]
        dslack = -unequal - _dot(G, dx)
        return _Point(dx, step[q.size :], -(complement + p.mu * dslack) / p.slack, dslack)

    def longest(p: _Point, d: _Point) -> Array:
        """Return the share of the step that keeps slacks and multipliers positive."""
        values = jnp.concatenate([p.mu, p.slack])
        changes = jnp.concatenate([d.mu, d.slack])
        ratios = jnp.where(changes < 0, -values / jnp.where(changes < 0, changes, -1), jnp.inf)
        return jnp.minimum(1.0, jnp.min(ratios, initial=jnp.inf))

    def move(p: _Point, d: _Point, length: Array) -> _Point:
        return jax.tree.map(lambda a, b: a + length * b, p, d)

    def advance(state: _State) -> _State:
        p = state.point
        product = p.mu * p.slack
        gap = jnp.sum(product) / max(num_unequal, 1)
        affine = direction(p, product)
        reached = move(p, affine, longest(p, affine))
        left = jnp.sum(reached.mu * reached.slack) / max(num_unequal, 1)
        centring = (left / jnp.where(gap > 0, gap, 1)) ** 3
        # the corrector takes in what the affine step leaves at second order
        d = direction(p, product + affine.mu * affine.slack - centring * gap)
        # short of the boundary; without inequalities there is none, and one step solves
        share = 1 - 1e-3 if num_unequal else 1.0
        p = move(p, d, share * longest(p, d))
        size = error(p)
        is_better = size < state.error
        best = jax.tree.map(lambda a, b: jnp.where(is_better, a, b), p, state.best)
        return _State(p, best, jnp.where(is_better, size, state.error), state.count + 1)

    start = _Point(
        jnp.zeros_like(q),
        jnp.zeros_like(b),
        jnp.full_like(h, scale),
        jnp.maximum(h, scale),
    )
    first = _State(start, start, jnp.asarray(jnp.inf, dtype), jnp.zeros((), jnp.int32))
    # as far as rounding leads: multipliers near 0 are what the derivative divides by
    unfinished = lambda s: (
        (s.error > 4 * eps) & (s.count < _MAX_STEPS) & jnp.all(jnp.isfinite(s.point.x))
    )
    last = control_flow.while_loop(unfinished, advance, first)
    converged = last.error <= jnp.sqrt(jnp.asarray(eps, dtype))
    return jax.tree.map(lambda leaf: jnp.where(converged, leaf, jnp.nan), last.best)


class _State(NamedTuple):
    point: _Point
    best: _Point
    error: Float[Array, ""]
    count: Int[Array, ""]


@_solve.defjvp
def _solve_jvp(primals, tangents):
    (program,), (d,) = primals, tangents
    P, _, A, b, G, _ = program
    point = _solve(program)
    x, nu, mu, slack = point
    # each row of the last block is scaled by its larger factor, or active rows would vanish
    size = mu + slack
    zeros = lambda *shape: jnp.zeros(shape, x.dtype)
    rows, unequal = b.size, mu.size
    matrix = jnp.block(
        [
            [P, A.T, G.T],
            [A, zeros(rows, rows), zeros(rows, unequal)],
            [(mu / size)[:, None] * G, zeros(unequal, rows), -jnp.diag(slack / size)],
        ]
    )
    d_dual = _dot(d.P, x) + d.q + _dot(d.A.T, nu) + _dot(d.G.T, mu)
    d_equal = _dot(d.A, x) - d.b
    d_unequal = _dot(d.G, x) - d.h
    right = jnp.concatenate([d_dual, d_equal, mu / size * d_unequal])
    step = jnp.linalg.solve(matrix, -right)
    dx, d_nu, d_mu = jnp.split(step, [x.size, x.size + rows])
    return point, _Point(dx, d_nu, d_mu, -d_unequal - _dot(G, dx))
