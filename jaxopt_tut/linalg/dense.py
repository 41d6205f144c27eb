"""Dense systems, solved in the sense of least squares where the matrix is singular to rounding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.linalg.solution import MatrixLike, Matvec, VectorLike, floating
from jaxopt_tut.types import Scalar
from jaxopt_tut.vectors import matmul, safe_ratio


@shown
class DenseSolution(NamedTuple):
    """A solution of `matrix @ x = b`, and what the factorization shows.

    Attributes:
      x: The solution; where there are many, or none, the shortest of least squares.
      is_regular: Whether the matrix has full rank, up to rounding.
      is_definite: Whether it is symmetric positive definite, up to rounding.
    """

    x: Float[Array, "dim"]
    is_regular: Bool[Array, ""]
    is_definite: Bool[Array, ""]


def solve_symmetric(matrix: MatrixLike, b: VectorLike) -> DenseSolution:
    r"""Solve a symmetric system, definite or not, singular or not.

    $$x = K^+ b, \qquad \text{which is } K^{-1} b \text{ where } K \text{ is regular}$$

    By Cholesky's factorization where that is safe, else by eigenvalues: those below
    $2 \sqrt n\, \epsilon$ of the largest, or within the asymmetry of the matrix, count as 0. They
    are those of $D K D$ with entries of about 1, so that variables of different units are no
    singularity. Under `vmap` the eigenvalues are only found if one of the matrices needs them.

    Args:
      matrix: $K$; its symmetric part is taken.
      b: The right-hand side.

    Returns:
      The solution; not a number where `matrix` or `b` is not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> found = solve_symmetric(jnp.ones((2, 2)), jnp.array([2.0, 0.0]))
      >>> print(found.x.round(4), found.is_definite)
      [0.5 0.5] False

    References:
      Golub and Van Loan (2013), sections 4.2 and 5.5.2; Ruiz (2001), algorithm 1, for $D$.
    """
    matrix, b = floating(matrix), floating(b)
    symmetric = (matrix + matrix.T) / 2
    rows, _ = _scales(symmetric)
    scaled = symmetric * rows[:, None] * rows
    skew = jnp.sqrt(jnp.sum(((matrix - matrix.T) * rows[:, None] * rows) ** 2)) / 2
    factor = jnp.linalg.cholesky(scaled)
    invert = lambda v: jax.scipy.linalg.cho_solve((factor, True), v)
    x, is_safe = _invert(scaled, rows * b, skew, invert, invert)
    first = DenseSolution(rows * x, is_safe, is_safe)

    def by_eigenvalues(_: DenseSolution) -> DenseSolution:
        values, vectors = jnp.linalg.eigh(scaled)
        threshold = _rounding(scaled) * jnp.max(jnp.abs(values), initial=0) + skew
        is_zero = jnp.abs(values) <= threshold
        x = _least_squares(rows, vectors, values, vectors, rows, is_zero, b)
        return DenseSolution(x, jnp.all(jnp.abs(values) > threshold), jnp.all(values > threshold))

    return control_flow.unless(is_safe, first, by_eigenvalues)


def solve_square(matrix: MatrixLike, b: VectorLike) -> DenseSolution:
    r"""Solve a square system, singular or not.

    As `solve_symmetric`, by Gauss's elimination where that is safe, else by singular values.

    Args:
      matrix: Any square matrix.
      b: The right-hand side.

    Returns:
      The solution; `is_definite` is always false.

    Example:
      >>> import jax.numpy as jnp
      >>> print(solve_square(jnp.array([[0.0, 2.0], [0.0, 0.0]]), jnp.array([4.0, 1.0])).x)
      [0. 2.]

    References:
      Golub and Van Loan (2013), sections 3.4 and 5.5.2.
    """
    matrix, b = floating(matrix), floating(b)
    rows, columns = _scales(matrix)
    scaled = matrix * rows[:, None] * columns
    factor = jax.scipy.linalg.lu_factor(scaled)
    invert = lambda v: jax.scipy.linalg.lu_solve(factor, v)
    transposed = lambda v: jax.scipy.linalg.lu_solve(factor, v, trans=1)
    no = jnp.zeros((), bool)
    x, is_safe = _invert(scaled, rows * b, jnp.zeros((), b.dtype), invert, transposed)
    first = DenseSolution(columns * x, is_safe, no)

    def by_singular_values(_: DenseSolution) -> DenseSolution:
        left, values, right = jnp.linalg.svd(scaled)
        threshold = _rounding(scaled) * jnp.max(values, initial=0)
        x = _least_squares(rows, left, values, right.T, columns, values <= threshold, b)
        return DenseSolution(x, jnp.all(values > threshold), no)

    return control_flow.unless(is_safe, first, by_singular_values)


def _rounding(matrix: Float[Array, "dim dim"]) -> Scalar:
    # errors of the entries add up like independent ones
    return 2 * jnp.sqrt(jnp.asarray(len(matrix), matrix.dtype)) * jnp.finfo(matrix.dtype).eps


def _scales(matrix: Float[Array, "dim dim"]) -> tuple[Float[Array, "dim"], Float[Array, "dim"]]:
    """Return powers of two that bring the largest entry of each row and column near 1."""
    size = jnp.abs(matrix)
    rows = columns = jnp.ones(len(matrix), matrix.dtype)
    for _ in range(_ROUNDS):
        scaled = size * rows[:, None] * columns
        rows = rows * _near_root(jnp.max(scaled, axis=1, initial=0))
        columns = columns * _near_root(jnp.max(scaled, axis=0, initial=0))
    return rows, columns


_ROUNDS = 6


def _near_root(size: Float[Array, "dim"]) -> Float[Array, "dim"]:
    known = (size > 0) & jnp.isfinite(size)
    exponent = jnp.frexp(jnp.where(known, size, 1))[1]
    return jnp.where(known, jnp.ldexp(jnp.ones_like(size), -(exponent // 2)), 1)


def _invert(
    scaled: Float[Array, "dim dim"],
    b: Float[Array, "dim"],
    skew: Scalar,
    invert: Matvec,
    transposed: Matvec,
) -> tuple[Float[Array, "dim"], Bool[Array, ""]]:
    """Solve, and tell whether the smallest singular value is clearly not 0, by inverse iteration.

    All solves stand in one line: XLA 0.10 on CPUs may wait forever for two that go on at a time.
    """
    vector = jnp.cos(1 + jnp.arange(len(scaled), dtype=scaled.dtype) ** 2)
    x, growth = b, jnp.ones((), scaled.dtype)
    for step in range(_INVERSE_STEPS):
        vector = transposed(vector / jnp.max(jnp.abs(vector), initial=0))
        if step == 0:
            vector, x = invert(jnp.stack([vector, b], axis=1)).T
        else:
            vector = invert(vector)
        # of the norm that does not square: what overflows is not finite and stays so
        growth = jnp.max(jnp.abs(vector), initial=0)
    largest = jnp.max(jnp.sum(jnp.abs(scaled), axis=1), initial=0)
    # ten times what counts as 0, for what the iteration overlooks
    threshold = 10 * (_rounding(scaled) * largest + skew)
    return x, jnp.isfinite(growth) & (jnp.sqrt(growth) * threshold < 1)


_INVERSE_STEPS = 2


def _least_squares(
    rows: Float[Array, "dim"],
    left: Float[Array, "dim dim"],
    values: Float[Array, "dim"],
    right: Float[Array, "dim dim"],
    columns: Float[Array, "dim"],
    is_zero: Bool[Array, "dim"],
    b: Float[Array, "dim"],
) -> Float[Array, "dim"]:
    r"""Return the shortest solution of least squares of $D_r^{-1} U S V^T D_c^{-1} x = b$."""
    off_range = _projector(rows[:, None] * left, is_zero)
    null = _projector(columns[:, None] * right, is_zero)
    b = b - off_range(b)
    inverse = safe_ratio(1, values, where=~is_zero)
    x = columns * matmul(right, inverse * matmul(left.T, rows * b))
    return x - null(x)


def _projector(basis: Float[Array, "dim dim"], chosen: Bool[Array, "dim"]) -> Matvec:
    """Return the orthogonal projection onto the span of the chosen columns.

    By reflections: units that differ bring the columns near each other, and products of them, as in
    normal equations, would lose twice the digits.
    """
    order = jnp.argsort(~chosen, stable=True)
    is_spanned = jnp.arange(len(chosen)) < jnp.sum(chosen)
    largest = jnp.max(jnp.abs(basis), axis=0, initial=0)
    basis = jnp.where(chosen, basis / jnp.where(largest > 0, largest, 1), 0)
    basis = jnp.where(is_spanned, jnp.linalg.qr(basis[:, order])[0], 0)
    return lambda v: matmul(basis, matmul(basis.T, v))
