r"""A quadratic model on a box: its Cauchy point, and its minimum on a face.

Around $x$ the model is $m(z) = g^T (z - x) + \tfrac12 (z - x)^T B (z - x)$ with a BFGS matrix $B$.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.optimizers.bfgs_matrix import CompactHessian, DenseHessian
from jaxopt_tut.vectors import Vector, dot, safe_ratio


class Box(NamedTuple):
    """Bounds of each coordinate; infinite where there is none."""

    lower: Vector
    upper: Vector

    def clip(self, x: Vector) -> Vector:
        """Return the nearest point of the box."""
        return jnp.clip(x, self.lower, self.upper)


class Path(NamedTuple):
    """The projected gradient path $P(x - t g)$, which bends where a coordinate meets its bound."""

    x: Vector
    g: Vector
    ends: Vector
    bends: Vector  # t at which a coordinate arrives: 0 if it is there, infinite if it never does

    def at(self, t: Float[Array, ""], box: Box) -> Vector:
        """Return the point at $t$."""
        # clipping t g would leave rounding between a coordinate and its bound
        return jnp.where(self.bends <= t, self.ends, box.clip(self.x - t * self.g))


def path(x: Vector, g: Vector, box: Box) -> Path:
    """Return the path from a point."""
    ends = jnp.where(g < 0, box.upper, box.lower)
    bent = (g != 0) & jnp.isfinite(ends)
    gap = jnp.where(bent, x - ends, 0)
    bends = jnp.where(bent, jnp.maximum(safe_ratio(gap, g, where=bent), 0), jnp.inf)
    return Path(x, g, jnp.where(bent, ends, x), bends)


def cauchy_point(hessian: DenseHessian | CompactHessian, x: Vector, g: Vector, box: Box) -> Vector:
    r"""Return the first minimum of the model along the projected gradient path.

    The published algorithm walks from bend to bend, and mostly ends before the first; where the
    way is long, all pieces are looked at at once.
    """
    way = path(x, g, box)
    # a loop has no reverse mode: it finds the piece, and derivatives are those of its minimum
    t = _end(*jax.lax.stop_gradient((hessian, way, box)))
    slope, curvature = _slope(hessian, way, box, t)
    inside = t - safe_ratio(slope, curvature, where=curvature > 0)
    bend = jnp.min(jnp.where(way.bends == t, way.bends, jnp.inf))
    return way.at(jnp.where(t == 0, 0, jnp.where(jnp.isfinite(bend), bend, inside)), box)


def _slope(
    hessian: DenseHessian | CompactHessian, way: Path, box: Box, t: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the slope of the model along the path, beyond $t$, and its curvature."""
    d = jnp.where(way.bends > t, -way.g, 0)
    pushed = hessian.times(d)
    return dot(way.g, d) + dot(pushed, way.at(t, box) - way.x), dot(pushed, d)


def _end(hessian: DenseHessian | CompactHessian, way: Path, box: Box) -> Float[Array, ""]:
    """Return where the first minimum is."""

    def walk(carry: tuple) -> tuple:
        t, _, count = carry
        slope, curvature = _slope(hessian, way, box, t)
        ahead = safe_ratio(-slope, curvature, where=curvature > 0, otherwise=jnp.inf)
        bend = jnp.min(jnp.where(way.bends > t, way.bends, jnp.inf))
        falls = slope < 0
        # a model that falls along the whole path ends at its last finite bend
        goes_on = falls & (t + ahead >= bend) & jnp.isfinite(bend)
        stop = jnp.where(falls & jnp.isfinite(ahead), t + ahead, t)
        return jnp.where(goes_on, bend, stop), ~goes_on, count + 1

    start = jnp.zeros_like(way.x, shape=()), jnp.zeros([], bool), jnp.zeros([], jnp.int32)
    goes_on = lambda carry: ~carry[1] & (carry[2] <= _MOST_BENDS)
    t, is_done, _ = control_flow.while_loop(goes_on, walk, start)
    if isinstance(hessian, CompactHessian) and len(way.x) > _MOST_BENDS:
        jump = lambda carry: (_first_minimum(hessian, way), jnp.ones_like(carry[1]))
        t, _ = control_flow.while_loop(lambda carry: ~carry[1], jump, (t, is_done))
    return t


_MOST_BENDS = 16  # a piece costs two products with B, all at once a sort and some twenty


def _first_minimum(hessian: CompactHessian, way: Path) -> Float[Array, ""]:
    """Return the $t$ of the Cauchy point from the slopes of all pieces, by cumulative sums."""
    theta, rows = hessian.theta, hessian.rows
    order = jnp.argsort(way.bends)
    bends, g, w = way.bends[order], way.g[order], rows.T[order]
    moves = (way.ends - way.x)[order]
    begins = jnp.concatenate([jnp.zeros_like(bends[:1]), bends[:-1]])
    # piece k runs from begins[k] to bends[k]; coordinates k and later still move, by -t g
    squares = jnp.cumsum((g * g)[::-1])[::-1]
    p = jnp.cumsum((-g[:, None] * w)[::-1], axis=0)[::-1]  # W^T of the direction
    arrived = moves[:, None] * w
    c = jnp.cumsum(arrived, axis=0) - arrived  # W^T of what has arrived before
    m_p = hessian.times_middle(p)
    curvature = theta * squares - jnp.sum(p * m_p, axis=1)
    at_zero = -squares - jnp.sum(c * m_p, axis=1)  # the slope, were the piece prolonged to t = 0
    t = jnp.clip(
        safe_ratio(-at_zero, curvature, where=curvature > 0, otherwise=jnp.inf), begins, bends
    )
    is_last = (t < bends) & (squares > 0)
    farthest = jnp.max(jnp.where(jnp.isfinite(bends), bends, 0))
    return jnp.where(jnp.any(is_last), t[jnp.argmax(is_last)], farthest)


def face_minimizer(
    hessian: DenseHessian | CompactHessian, x: Vector, g: Vector, start: Vector, box: Box
) -> Vector:
    r"""Return the minimum of the model with the coordinates fixed that `start` has at a bound.

    Of the free coordinates (the *direct primal method*); then projected into the box or, where that
    is no descent, cut short at its wall (Morales and Nocedal 2011, section 2).
    """
    free = (start > box.lower) & (start < box.upper)
    residual = jnp.where(free, g + hessian.times(start - x), 0)
    step = jnp.where(free, -hessian.solve_free(free, residual), 0)
    step = jnp.where(jnp.all(jnp.isfinite(step)), step, 0)
    projected = box.clip(start + step)
    walls = jnp.where(step > 0, box.upper, box.lower)
    meets = free & (step != 0) & jnp.isfinite(walls)
    room = jnp.where(meets, walls - start, 0)
    shares = safe_ratio(room, step, where=meets, otherwise=jnp.inf)
    cut = box.clip(start + jnp.minimum(1, jnp.min(shares)) * step)
    falls = dot(g, projected - x) < 0
    return jnp.where(falls, projected, cut)
