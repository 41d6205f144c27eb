"""BFGS matrices that a quadratic model on a box is made of: dense for few unknowns, or compact."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float

from jaxopt_tut.vectors import Vector, dot, matmul


def bfgs_matrix(
    steps: Float[Array, "memory dim"], changes: Float[Array, "memory dim"], theta: Float[Array, ""]
) -> "DenseHessian | CompactHessian":
    """Return the matrix of pairs that lie in rows from old to new, whichever form is cheaper."""
    is_small = steps.shape[1] <= _FEW and len(steps) <= 2 * _FEW
    return (dense_hessian if is_small else compact_hessian)(steps, changes, theta)


_FEW = 16


class DenseHessian(NamedTuple):
    """The matrix itself, of few unknowns: all is sums of products, and nothing calls LAPACK."""

    matrix: Float[Array, "dim dim"]

    @property
    def is_usable(self) -> Bool[Array, ""]:
        """Whether all is finite."""
        return jnp.all(jnp.isfinite(self.matrix))

    def reset(self, theta: Float[Array, ""]) -> "DenseHessian":
        r"""Return $\theta I$."""
        return DenseHessian(theta * jnp.eye(len(self.matrix), dtype=self.matrix.dtype))

    def times(self, v: Vector) -> Vector:
        """Return $B v$."""
        return matmul(self.matrix, v)

    def solve_free(self, free: Bool[Array, "dim"], residual: Vector) -> Vector:
        """Solve with the rows and columns of the free coordinates, by Gauss and Jordan."""
        size = len(residual)
        identity = jnp.eye(size, dtype=residual.dtype)
        table = jnp.where(free[:, None] & free, self.matrix, identity)
        table = jnp.concatenate([table, residual[:, None]], axis=1)
        for k in range(size):  # without pivots: the matrix is positive definite
            row = table[k] / table[k, k]
            is_pivot = (jnp.arange(size) == k)[:, None]
            table = jnp.where(is_pivot, row, table - table[:, k, None] * row)
        return table[:, -1]


def dense_hessian(
    steps: Float[Array, "memory dim"], changes: Float[Array, "memory dim"], theta: Float[Array, ""]
) -> DenseHessian:
    r"""Update $\theta I$ by one pair after the other; rows of zeros are none.

    $$B_+ = B - \frac{B s\, s^T B}{s^T B s} + \frac{y\, y^T}{s^T y}$$
    """
    # Nocedal and Wright (2006), eq. (6.19)
    matrix = theta * jnp.eye(steps.shape[1], dtype=steps.dtype)
    for s, y in zip(steps, changes, strict=True):
        is_used = jnp.any(s != 0)
        pushed = matmul(matrix, s)
        bend, curvature = (jnp.where(is_used, dot(s, v), 1) for v in (pushed, y))
        matrix = matrix - jnp.outer(pushed, pushed) / bend + jnp.outer(y, y) / curvature
    return DenseHessian(matrix)


class CompactHessian(NamedTuple):
    r"""$B = \theta I - W M W^T$: Byrd, Lu, Nocedal and Zhu (1995), eqs. (3.2) to (3.4).

    $W^T$ holds the changes $Y$ and then $\theta S$ in rows, and
    $M^{-1} = \begin{pmatrix} -D & L^T \\ L & \theta S S^T \end{pmatrix}$ with the diagonal $D$
    and the strictly lower part $L$ of $S Y^T$.
    """

    theta: Float[Array, ""]
    rows: Float[Array, "pairs dim"]  # W^T
    half: Float[Array, "memory pairs"]  # M is its Gram matrix, less D^-1 in the first block
    diagonal: Float[Array, "memory"]  # D
    lower: Float[Array, "memory memory"]  # L
    unused: Float[Array, "memory"]  # 1 for rows without a pair

    @property
    def is_usable(self) -> Bool[Array, ""]:
        """Whether the pairs were independent, beyond rounding."""
        return jnp.all(jnp.isfinite(self.half))

    def reset(self, theta: Float[Array, ""]) -> "CompactHessian":
        r"""Return $\theta I$."""
        nothing = jax.tree.map(jnp.zeros_like, self)
        ones = jnp.ones_like(self.diagonal)
        return nothing._replace(theta=theta, diagonal=ones, unused=ones)

    def times(self, v: Vector) -> Vector:
        """Return $B v$."""
        return self.theta * v - matmul(self.times_middle(matmul(self.rows, v)), self.rows)

    def times_middle(self, v: Float[Array, "*vectors pairs"]) -> Float[Array, "*vectors pairs"]:
        """Return $M v$, of each row."""
        size = len(self.diagonal)
        first = jnp.concatenate([v[..., :size] / self.diagonal, jnp.zeros_like(v[..., size:])], -1)
        return matmul(matmul(v, self.half.T), self.half) - first

    def solve_free(self, free: Bool[Array, "dim"], residual: Vector) -> Vector:
        """Solve with the rows and columns of the free coordinates."""
        rows = jnp.where(free, self.rows, 0)
        inner = _solve_inner(self, rows, residual)
        return (residual + matmul(inner, rows) / self.theta) / self.theta


def compact_hessian(
    steps: Float[Array, "memory dim"], changes: Float[Array, "memory dim"], theta: Float[Array, ""]
) -> CompactHessian:
    """Form the matrix of pairs that lie in rows from old to new; rows of zeros are none.

    Where the pairs are dependent up to rounding, it is not usable.
    """
    # B does not feel the length of a pair, but products of short ones underflow
    s_y, s_s = matmul(steps, changes.T), matmul(steps, steps.T)
    is_used = jnp.diagonal(s_s) > 0
    diagonal = jnp.where(is_used, jnp.diagonal(s_y), 1)
    lower = jnp.tril(s_y, -1)
    unused = jnp.where(is_used, 0, 1).astype(s_s.dtype)
    # by the Schur complement of -D, which is positive definite: one small Cholesky factor. It and
    # those of `_solve_inner` depend on one another: XLA 0.10 on CPUs may wait forever for two
    # batches of factorizations at a time
    scaled = lower / diagonal
    factor = jnp.linalg.cholesky(theta * s_s + jnp.diag(unused) + matmul(scaled, lower.T))
    both = jnp.concatenate([scaled, jnp.eye(len(factor), dtype=factor.dtype)], axis=1)
    half = solve_triangular(factor, both, lower=True)
    rows = jnp.concatenate([changes, theta * steps])
    return CompactHessian(theta, rows, half, diagonal, lower, unused)


def _solve_inner(
    hessian: CompactHessian, free: Float[Array, "pairs dim"], residual: Float[Array, "dim"]
) -> Float[Array, "pairs"]:
    r"""Solve $(M^{-1} - W_f^T W_f / \theta)\, v = W_f^T r$, $W_f$ the free rows of $W$.

    The matrix is $\begin{pmatrix} -E & R \\ R^T & F \end{pmatrix}$, with $E$ and the Schur
    complement $F + R^T E^{-1} R$ positive definite.
    """
    theta, rows, _, diagonal, lower, unused = hessian
    size = len(diagonal)
    changes, steps = free[:size], free[size:]  # the latter times theta
    fixed = rows[size:] - steps
    above, below = jnp.split(matmul(free, residual), 2)
    outer = jnp.linalg.cholesky(jnp.diag(diagonal) + matmul(changes, changes.T) / theta)
    coupling = lower.T - matmul(changes, steps.T) / theta
    eliminated = solve_triangular(
        outer, jnp.concatenate([coupling, above[:, None]], axis=1), lower=True
    )
    half, first = eliminated[:, :-1], eliminated[:, -1]
    schur = matmul(fixed, fixed.T) / theta + jnp.diag(unused) + matmul(half.T, half)
    second = cho_solve((jnp.linalg.cholesky(schur), True), below + matmul(half.T, first))
    first = solve_triangular(outer, matmul(half, second) - first, lower=True, trans=1)
    return jnp.concatenate([first, second])
