"""Denoising by total variation on a line, exactly and differentiably."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from jaxopt_tut import control_flow
from jaxopt_tut.bilevel.layers.arguments import at_least_float32, promote, weight
from jaxopt_tut.types import Number
from jaxopt_tut.vectors import magnitude


def prox_tv1d(x: Real[Array | np.ndarray, "length"], lam: Number) -> Float[Array, "length"]:
    r"""Flatten a signal: the proximal operator of total variation.

    $$u^* = \arg\min_u \tfrac12 \lVert u - x \rVert^2 + \lambda \sum_i |u_{i+1} - u_i|$$

    The solution is constant on segments. Their ends are found exactly by dynamic programming, in
    some ten operations a sample whatever the signal, and then it is written by the segments $S$ and
    the signs $\sigma$ of the jumps at their ends,

    $$u^*_S = \frac{1}{|S|} \Big( \sum_{i \in S} x_i + \lambda\, (\sigma_{\text{right}} -
    \sigma_{\text{left}}) \Big),$$

    which is what is differentiated: in `x` and in $\lambda$, to any order (the second is 0). At a
    tie, where two segments are about to merge or to part, $u^*$ has a kink; the derivative is that
    of one of the two sides, whichever rounding chooses.

    Args:
      x: The signal; integers count as floating, halves are computed in float32.
      lam: $\lambda \ge 0$; above the largest partial sum of $x$ minus its mean, up to infinity,
        the solution is the mean.

    Returns:
      $u^*$; not a number if `x` is not finite, or a traced $\lambda$ is negative or not a number.

    Raises:
      TypeError: If `x` or `lam` is complex.
      ValueError: If `x` is no vector, `lam` no scalar, or a static `lam` is negative.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.array([0.0, 0.5, 5.0, 5.5])
      >>> print(prox_tv1d(x, 0.5))
      [0.5 0.5 5.  5. ]
      >>> print(jax.jacfwd(prox_tv1d, argnums=1)(x, 0.5))
      [ 0.5  0.5 -0.5 -0.5]

    References:
      Johnson (2013), section 3. https://doi.org/10.1080/10618600.2012.681238
    """
    if jnp.ndim(x) != 1:
        raise ValueError(f"prox_tv1d needs a vector, got shape {jnp.shape(x)}.")
    if jnp.ndim(lam) != 0:
        raise ValueError(f"prox_tv1d needs a scalar lam, got shape {jnp.shape(lam)}.")
    (x,) = promote("prox_tv1d", x)
    given, dtype = x.dtype, at_least_float32(x.dtype)
    x, lam = x.astype(dtype), weight("prox_tv1d", lam, dtype)
    is_valid = jnp.all(jnp.isfinite(x)) & (lam >= 0)
    if not x.size:
        return x.astype(given)
    # from the mean and in units of the largest deviation, so that sums lose and overflow nothing
    coarse = magnitude(x)
    centre = coarse * jax.lax.stop_gradient(jnp.mean(x / coarse))
    centre = jnp.where(is_valid, centre, 0)
    unit = magnitude(x / 2 - centre / 2)
    y = jnp.where(is_valid, x / unit - centre / unit, 0)
    # beyond this there are no jumps, and infinity times none would be no number
    enough = jax.lax.stop_gradient(2 * jnp.sum(jnp.abs(y)) + 1)
    t = jnp.where(lam / unit < enough, lam / unit, enough)
    jumps = _jumps(*jax.lax.stop_gradient((y, t)))
    edge = jnp.zeros(1, dtype)
    pull = jnp.diff(jnp.concatenate([edge, jumps, edge]))
    # where nothing is to be paid for a jump, equal neighbours are not bound to each other
    level = _means(y, (jumps != 0) | (t == 0)) + t * _means(pull, jumps != 0)
    flag = jnp.where(is_valid, 1, jnp.nan).astype(dtype)
    return ((centre + unit * level) * flag).astype(given)


def _means(values: Float[Array, "length"], ends: Bool[Array, "jumps"]) -> Float[Array, "length"]:
    """Return the mean over the segment of each sample."""
    segment = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(ends, dtype=jnp.int32)])
    add = lambda values: jax.ops.segment_sum(values, segment, num_segments=values.size)
    return (add(values) / jnp.maximum(add(jnp.ones_like(values)), 1))[segment]


class _Derivative(NamedTuple):
    """The derivative of the least cost of a prefix in its last value: piecewise linear, growing.

    `knots[left]` to `knots[right]` are the ends of its pieces, at which slope and offset change by
    `slopes` and `offsets`, counted from the left up to where it is `-lam` and from the right down
    to where it is `lam`, between which it is clipped.
    """

    knots: Float[Array, "places"]
    slopes: Float[Array, "places"]
    offsets: Float[Array, "places"]
    left: Int[Array, ""]
    right: Int[Array, ""]


class _Piece(NamedTuple):
    at: Int[Array, ""]
    slope: Float[Array, ""]
    offset: Float[Array, ""]


@jax.jit
def _jumps(x: Float[Array, "length"], lam: Float[Array, ""]) -> Float[Array, "jumps"]:
    """Return the sign of the jump after each sample; 0 inside of a segment.

    The dual variable touches plus or minus lambda at each jump by construction, also where rounding
    makes one of what is a tie, so that the formula by segments holds there.
    """
    count = x.size
    if count == 1:
        return jnp.zeros(0, x.dtype)
    last = 2 * count - 1

    def from_left(d: _Derivative, target, piece: _Piece) -> _Piece:
        """Go up to the piece on which the derivative reaches the target."""

        def is_below(p: _Piece) -> Bool[Array, ""]:
            there = d.knots[jnp.minimum(p.at, last)]
            return (p.at <= d.right) & (p.slope * there + p.offset <= target)

        step = lambda p: _Piece(p.at + 1, p.slope + d.slopes[p.at], p.offset + d.offsets[p.at])
        return control_flow.while_loop(is_below, step, piece)

    def from_right(d: _Derivative, target, piece: _Piece, lowest) -> _Piece:
        def is_above(p: _Piece) -> Bool[Array, ""]:
            there = d.knots[jnp.maximum(p.at, 0)]
            return (p.at >= lowest) & (p.slope * there + p.offset >= target)

        step = lambda p: _Piece(p.at - 1, p.slope - d.slopes[p.at], p.offset - d.offsets[p.at])
        return control_flow.while_loop(is_above, step, piece)

    one = jnp.ones_like(lam)

    def advance(d: _Derivative, value):
        """Add a sample's own term, and clip at minus and plus lambda."""
        low = from_left(d, -lam, _Piece(d.left, one, -lam - value))
        high = from_right(d, lam, _Piece(d.right, one, lam - value), low.at)
        lower = (-lam - low.offset) / low.slope
        upper = (lam - high.offset) / high.slope
        left, right = low.at - 1, high.at + 1
        at = jnp.stack([left, right])
        return _Derivative(
            knots=d.knots.at[at].set(jnp.stack([lower, upper])),
            slopes=d.slopes.at[at].set(jnp.stack([low.slope, -high.slope])),
            offsets=d.offsets.at[at].set(jnp.stack([low.offset + lam, lam - high.offset])),
            left=left,
            right=right,
        ), (lower, upper)

    # before the first sample the derivative is 0 everywhere: no knots, and nothing to clip
    middle = jnp.full((), count, jnp.int32)
    room = jnp.zeros(2 * count, x.dtype)
    at = jnp.stack([middle - 1, middle])
    first = _Derivative(
        knots=room.at[at].set(jnp.stack([x[0] - lam, x[0] + lam])),
        slopes=room.at[at].set(jnp.stack([one, -one])),
        offsets=room.at[at].set(jnp.stack([lam - x[0], lam + x[0]])),
        left=middle - 1,
        right=middle,
    )
    derivative, (lower, upper) = control_flow.scan(advance, first, x[1:-1])
    end = from_left(derivative, jnp.zeros_like(lam), _Piece(derivative.left, one, -lam - x[-1]))
    lower = jnp.concatenate([(x[0] - lam)[None], lower])
    upper = jnp.concatenate([(x[0] + lam)[None], upper])

    def retreat(value, bounds):
        low, high = bounds
        jump = jnp.where(value > high, one, jnp.where(value < low, -one, 0 * one))
        return jnp.clip(value, low, high), jump

    _, jumps = control_flow.scan(retreat, -end.offset / end.slope, (lower, upper), reverse=True)
    return jnp.where(lam > 0, jumps, jnp.sign(jnp.diff(x)))
