r"""Whether a fit has arrived, and whether a parameter has lost its hold on the residuals.

A gradient $J^T r$ is small in units of the data, or because a column of $J$ is: neither is a fit.
What tells is the part of $r$ that lies in the range of $J$, where lengths of columns cancel. Beside
$r$ it is the *relative offset*: how far the parameters are, in their standard errors, from the
minimum (Bates and Watts 1981, https://doi.org/10.1080/00401706.1981.10486264).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_tut.optimizers.damped_least_squares import Factors, within_range
from jaxopt_tut.types import Flag, Scalar
from jaxopt_tut.vectors import Vector, matmul, norm, safe_ratio


class Verdict(NamedTuple):
    """What the Jacobian says at the point where it was taken."""

    arrived: Flag  # to half of the digits
    exhausted: Flag  # to all of them: what is left is rounding
    vanished: Flag


def no_verdict() -> Verdict:
    """Return the verdict before the first point."""
    return Verdict(*(jnp.zeros([], bool) for _ in Verdict._fields))


class Largest(NamedTuple):
    """The largest lengths that the residuals and the columns of the Jacobian had so far."""

    residual: Scalar
    columns: Vector


def nothing_yet(w: Vector) -> Largest:
    """Return the lengths before the first point."""
    return Largest(jnp.zeros([], w.dtype), jnp.zeros_like(w))


def column_norms(jacobian: Float[Array, "residuals dim"]) -> Vector:
    """Return the lengths of columns."""
    return jax.vmap(norm, in_axes=1)(jacobian)


def grown(largest: Largest, r: Float[Array, "residuals"], columns: Vector) -> Largest:
    """Add the lengths at another point."""
    return Largest(jnp.fmax(largest.residual, norm(r)), jnp.fmax(largest.columns, columns))


def rounding_of(
    r: Float[Array, "residuals"], jacobian: Float[Array, "residuals dim"], w: Vector
) -> Scalar:
    r"""Return what rounding does to the residuals: $\epsilon (\lVert |J| |w| \rVert + |r|)$."""
    moved = norm(matmul(jnp.abs(jacobian), jnp.abs(w)))
    return jnp.finfo(r.dtype).eps * (moved + norm(r))


def judge(
    of: Factors,
    r: Float[Array, "residuals"],
    jacobian: Float[Array, "residuals dim"],
    w: Vector,
    gradient: Vector,
    largest: Largest,
    free: Bool[Array, "dim"],
) -> Verdict:
    """Judge a point, by the columns of `free` parameters, which `of` decomposes in any units."""
    eps = jnp.finfo(r.dtype).eps
    size, columns = norm(r), column_norms(jacobian)
    rounding, offset = rounding_of(r, jacobian, w), within_range(of, r)
    # residuals that go to 0 more slowly than in Newton's way, as where J does, too: they stay in
    # its range, and never meet the rounding of the parameters
    small = jnp.max(jnp.abs(gradient), initial=0) <= (1e-6 if eps < 1e-12 else 1e-4)
    fades = small & (size <= eps * largest.residual) & (offset >= 0.99 * size)
    is_zero = (size <= 10 * rounding) | fades
    exhausted = is_zero | (offset <= 10 * rounding)
    # the square of the offset is the most that a step can take off the sum of squares
    arrived = exhausted | (offset <= jnp.sqrt(size) * jnp.sqrt(10 * eps * size + 2 * rounding))
    # at a minimum r is orthogonal to a column that has any length, however small
    points_to = jnp.abs(matmul(safe_ratio(r, size), jacobian)) > 1e-3 * columns
    # a rate has no hold either where a bound holds its amplitude at 0, which may be the minimum
    is_gone = (columns == 0) & jnp.all(free)
    is_lost = (columns <= jnp.sqrt(eps) * largest.columns) & (is_gone | points_to)
    is_lost = free & (largest.columns > 0) & is_lost
    known = jnp.isfinite(size)
    return Verdict(arrived & known, exhausted & known, jnp.any(is_lost) & ~is_zero)
