r"""Linear least squares, damped or within a ball, from one singular value decomposition.

$$p(\lambda) = \arg\min_p \lVert A p + b \rVert^2 + \lambda \lVert p \rVert^2$$

For any shape and rank of $A$: what it does not see stays 0. The decomposition is a constant for
derivatives, which come from the normal equations, so that equal singular values are no trouble.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow
from jaxopt_tut.types import Scalar
from jaxopt_tut.vectors import Vector, dot, matmul, norm, safe_ratio

_MAX_TRIALS = 50
"""Trials of the damping at most; Newton's method needs about five."""


class Factors(NamedTuple):
    """$A = U S V^T$; singular values that are rounding errors are 0."""

    left: Float[Array, "rows rank"]
    values: Float[Array, "rank"]
    right: Float[Array, "dim rank"]


def factors(matrix: Float[Array, "rows dim"]) -> Factors:
    """Decompose a matrix, as a constant."""
    constant = jax.lax.stop_gradient(matrix)
    left, values, right = jnp.linalg.svd(constant, full_matrices=False)
    rounding = max(matrix.shape) * jnp.finfo(matrix.dtype).eps * jnp.max(values, initial=0)
    # what is no number is kept, to be seen
    return Factors(left, jnp.where(values <= rounding, 0, values), right.T)


def within_range(of: Factors, b: Float[Array, "rows"]) -> Scalar:
    """Return the length of the part of a vector that lies in the range of the matrix."""
    return norm(jnp.where(of.values == 0, 0, matmul(b, of.left)))


@jax.custom_jvp
def damped(
    of: Factors, matrix: Float[Array, "rows dim"], b: Float[Array, "rows"], damping: Scalar
) -> Vector:
    """Return the shortest minimum of the damped sum of squares."""
    del matrix  # for derivatives
    return matmul(of.right, _along(of, matmul(b, of.left), damping))


def _along(of: Factors, b: Float[Array, "rank"], damping: Scalar) -> Float[Array, "rank"]:
    """Return the coordinates of the minimum along the right singular vectors."""
    # for values so small that their squares vanish: divided once at a time
    seen = of.values != 0
    return -safe_ratio(b, of.values + safe_ratio(damping, of.values, where=seen), where=seen)


@damped.defjvp
def _damped_jvp(primals: tuple, tangents: tuple) -> tuple[Vector, Vector]:
    of, matrix, b, damping = primals
    _, d_matrix, d_b, d_damping = tangents
    p = damped(of, matrix, b, damping)
    left_over = matmul(matrix, p) + b
    seen = of.values != 0
    inverse = safe_ratio(1, of.values**2 + damping, where=seen)
    # (A^T A + damping) dp = -(dA^T (A p + b) + A^T (dA p + db) + d_damping p)
    turned = matmul(left_over, d_matrix)
    right = turned + matmul(matmul(d_matrix, p) + d_b, matrix) + d_damping * p
    d_p = -matmul(of.right, inverse * matmul(right, of.right))
    # the part that A does not see: (A p + b) / damping, which without damping tends to its share
    # in the range of A
    share = -matmul(of.left, safe_ratio(matmul(p, of.right), of.values, where=seen))
    share = jnp.where(damping > 0, safe_ratio(left_over, damping), share)
    unseen = matmul(share, d_matrix)
    return p, d_p - (unseen - matmul(of.right, jnp.where(seen, matmul(unseen, of.right), 0)))


@jax.custom_jvp
def damping_within(
    of: Factors, matrix: Float[Array, "rows dim"], b: Float[Array, "rows"], radius: Scalar
) -> Scalar:
    r"""Return the least $\lambda \ge 0$ with $\lVert p(\lambda) \rVert \le$ `radius`."""
    del matrix  # for derivatives
    eps = jnp.finfo(b.dtype).eps
    along = matmul(b, of.left)
    inside = norm(_along(of, along, jnp.zeros([], b.dtype))) <= radius

    def newton(t: _Trial) -> _Trial:
        p = _along(of, along, t.damping)
        length = norm(p)
        slope = jnp.sum(safe_ratio(p**2, of.values**2 + t.damping, where=of.values != 0))
        growth = (length / radius - 1) * safe_ratio(length**2, slope)
        done = (length <= radius * (1 + 10 * eps)) | ~(growth > 0)
        return _Trial(t.damping + jnp.where(done, 0, growth), done, t.count + 1)

    # from the left, where the step is too long, Newton's iterates on 1 / |p| never overshoot
    least = jnp.max(of.values * (jnp.abs(along) / radius - of.values), initial=0)
    last = control_flow.while_loop(
        lambda t: ~t.done & (t.count < _MAX_TRIALS),
        newton,
        _Trial(jnp.where(inside, 0, least), inside, jnp.zeros([], jnp.int32)),
    )
    return last.damping


class _Trial(NamedTuple):
    damping: Scalar
    done: Bool[Array, ""]
    count: Int[Array, ""]


@damping_within.defjvp
def _damping_within_jvp(primals: tuple, tangents: tuple) -> tuple[Scalar, Scalar]:
    of, matrix, b, radius = primals
    d_of, d_matrix, d_b, d_radius = tangents
    damping = damping_within(of, matrix, b, radius)
    none, one = jnp.zeros_like(damping), jnp.ones_like(damping)
    at = (of, matrix, b, damping)
    # on the boundary |p|^2 = radius^2: p^T (dp + d_damping dp/d_damping) = radius d_radius
    p, d_p = jax.jvp(damped, at, (d_of, d_matrix, d_b, none))
    still = (jnp.zeros_like(matrix), jnp.zeros_like(b))
    d_along = jax.jvp(damped, at, (jax.tree.map(jnp.zeros_like, of), *still, one))[1]
    d_damping = safe_ratio(radius * d_radius - dot(p, d_p), dot(p, d_along))
    return damping, jnp.where(damping > 0, d_damping, none)
