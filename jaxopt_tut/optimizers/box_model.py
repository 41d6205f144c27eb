r"""A quadratic model on a box, from few pairs: its Cauchy point, and its minimum on a face.

Around $x$ the model is $m(z) = g^T (z - x) + \tfrac12 (z - x)^T B (z - x)$, where $B$ is the BFGS
matrix of some pairs in compact form: two copies of the parameters a pair, and nothing larger.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.vectors import dot, matmul, safe_ratio


class Box(NamedTuple):
    """Bounds of each coordinate; infinite where there is none."""

    lower: Float[Array, "dim"]
    upper: Float[Array, "dim"]

    def clip(self, x: Float[Array, "dim"]) -> Float[Array, "dim"]:
        """Return the nearest point of the box."""
        return jnp.clip(x, self.lower, self.upper)


class CompactHessian(NamedTuple):
    r"""$B = \theta I - W M W^T$: Byrd, Lu, Nocedal and Zhu (1995), eqs. (3.2) to (3.4)."""

    theta: Float[Array, ""]
    w: Float[Array, "dim pairs"]
    m_inverse: Float[Array, "pairs pairs"]


def compact_hessian(
    steps: Float[Array, "memory dim"], changes: Float[Array, "memory dim"], theta: Float[Array, ""]
) -> CompactHessian:
    """Form the matrix of pairs that lie in rows from old to new; rows of zeros are none."""
    # B does not feel the length of a pair, but products of short ones underflow
    s_y, s_s = matmul(steps, changes.T), matmul(steps, steps.T)
    is_used = jnp.diagonal(s_s) > 0
    diagonal = jnp.where(is_used, jnp.diagonal(s_y), 1)
    strictly_lower = jnp.tril(s_y, -1)
    gram = theta * s_s + jnp.diag(jnp.where(is_used, 0, 1).astype(s_s.dtype))
    return CompactHessian(
        theta,
        jnp.concatenate([changes, theta * steps]).T,
        jnp.block([[-jnp.diag(diagonal), strictly_lower.T], [strictly_lower, gram]]),
    )


def cauchy_point(
    hessian: CompactHessian, x: Float[Array, "dim"], g: Float[Array, "dim"], box: Box
) -> Float[Array, "dim"]:
    r"""Return the first minimum of the model along the projected gradient path $P(x - t g)$.

    The path bends where a coordinate meets its bound. The published algorithm walks from bend to
    bend; here the slope of the model at the end of each straight piece is one cumulative sum, and
    the first piece that ends uphill holds the minimum.
    """
    theta, w, m_inverse = hessian
    ends = jnp.where(g < 0, box.upper, box.lower)
    # a coordinate at its bound does not move; one without gradient, or without bound, never bends
    bent = (g != 0) & jnp.isfinite(ends)
    gap = jnp.where(bent, x - ends, 0)
    bends = jnp.where(bent, jnp.maximum(safe_ratio(gap, g, where=bent), 0), jnp.inf)
    order = jnp.argsort(bends)
    bends, g, w, moves = bends[order], g[order], w[order], -gap[order]
    begins = jnp.concatenate([jnp.zeros_like(bends[:1]), bends[:-1]])
    # piece k runs from begins[k] to bends[k]; coordinates k and later still move, by -t g
    squares = jnp.cumsum((g * g)[::-1])[::-1]
    p = jnp.cumsum((-g[:, None] * w)[::-1], axis=0)[::-1]  # W^T of the direction
    arrived = moves[:, None] * w
    c = jnp.cumsum(arrived, axis=0) - arrived  # W^T of what has arrived before
    m_p = matmul(p, jnp.linalg.inv(m_inverse))  # of one small matrix, not of many vectors
    curvature = theta * squares - jnp.sum(p * m_p, axis=1)
    at_zero = -squares - jnp.sum(c * m_p, axis=1)  # the slope, were the piece prolonged to t = 0
    t = jnp.clip(
        safe_ratio(-at_zero, curvature, where=curvature > 0, otherwise=jnp.inf), begins, bends
    )
    is_last = (t < bends) & (squares > 0)
    stays = squares[0] == 0
    first = jnp.argmax(is_last)
    # a model that falls along the whole path ends at its last finite bend
    farthest = jnp.max(jnp.where(jnp.isfinite(bends), bends, 0))
    t = jnp.where(stays, 0, jnp.where(jnp.any(is_last), t[first], farthest))
    back = jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype))
    # clipping t g would leave rounding between a coordinate and its bound
    at_end = (bends <= t)[back]
    return jnp.where(at_end, jnp.where(g[back] == 0, x, ends), box.clip(x - t * g[back]))


def face_minimizer(
    hessian: CompactHessian,
    x: Float[Array, "dim"],
    g: Float[Array, "dim"],
    start: Float[Array, "dim"],
    box: Box,
) -> Float[Array, "dim"]:
    r"""Return the minimum of the model with the coordinates fixed that `start` has at a bound.

    By the Sherman-Morrison-Woodbury formula on the free coordinates (the *direct primal method*);
    then projected into the box or, where that is no descent, cut short at its wall (Morales and
    Nocedal 2011, section 2).
    """
    theta, w, m_inverse = hessian
    free = (start > box.lower) & (start < box.upper)
    moved = start - x
    residual = g + theta * moved - matmul(w, jnp.linalg.solve(m_inverse, matmul(w.T, moved)))
    residual = jnp.where(free, residual, 0)
    w_free = jnp.where(free[:, None], w, 0)
    inner = m_inverse - matmul(w_free.T, w_free) / theta
    step = residual + matmul(w_free, jnp.linalg.solve(inner, matmul(w_free.T, residual))) / theta
    step = jnp.where(free, -step / theta, 0)
    projected = box.clip(start + step)
    walls = jnp.where(step > 0, box.upper, box.lower)
    meets = free & (step != 0) & jnp.isfinite(walls)
    room = jnp.where(meets, walls - start, 0)
    shares = safe_ratio(room, step, where=meets, otherwise=jnp.inf)
    cut = box.clip(start + jnp.minimum(1, jnp.min(shares)) * step)
    falls = dot(g, projected - x) < 0
    return jnp.where(falls, projected, cut)
