"""Denoising by total variation on a line, exactly and differentiably."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow


def prox_tv1d(x: Float[Array, "length"], lam: ArrayLike) -> Float[Array, "length"]:
    r"""Flatten a signal: the proximal operator of total variation.

    $$u^* = \arg\min_u \tfrac12 \lVert u - x \rVert^2 + \lambda \sum_i |u_{i+1} - u_i|$$

    The solution is constant on segments. Found exactly by one sweep along the signal, and then
    written by the segments $S$ and the signs $\sigma$ of the jumps at their ends,

    $$u^*_S = \frac{1}{|S|} \Big( \sum_{i \in S} x_i + \lambda\, (\sigma_{\text{right}} -
    \sigma_{\text{left}}) \Big),$$

    which is what is differentiated: in `x` and in $\lambda$, to any order (the second is 0). At
    least one operation a sample, and one write a segment.

    Args:
      x: The signal.
      lam: $\lambda \ge 0$.

    Returns:
      $u^*$.

    Raises:
      ValueError: If `x` is no vector.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.array([0.0, 0.5, 5.0, 5.5])
      >>> print(prox_tv1d(x, 0.5))
      [0.5 0.5 5.  5. ]
      >>> print(jax.jacfwd(prox_tv1d, argnums=1)(x, 0.5))
      [ 0.5  0.5 -0.5 -0.5]

    References:
      Condat (2013), section II, for the sweep. https://doi.org/10.1109/LSP.2013.2278339
    """
    if jnp.ndim(x) != 1:
        raise ValueError(f"prox_tv1d needs a vector, got shape {jnp.shape(x)}.")
    if x.size < 2:
        return x
    lam = jnp.asarray(lam, x.dtype)
    solution = _sweep(jax.lax.stop_gradient(x), jax.lax.stop_gradient(lam))
    jumps = jnp.sign(jnp.diff(solution))
    segment = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(jumps != 0, dtype=jnp.int32)])
    edge = jnp.zeros(1, x.dtype)
    pulled = x + lam * jnp.diff(jnp.concatenate([edge, jumps, edge]))
    add = lambda values: jax.ops.segment_sum(values, segment, num_segments=x.size)
    return (add(pulled) / jnp.maximum(add(jnp.ones_like(x)), 1))[segment]


class _Sweep(NamedTuple):
    """The segment under way: it starts at `first`, has come to `at`, and may end at a touch.

    `low` and `high` bound its value, `down` and `up` are the dual variable's values at the two
    bounds, and `low_at` and `high_at` the places where they last touched minus and plus lambda.
    """

    at: Int[Array, ""]
    first: Int[Array, ""]
    low_at: Int[Array, ""]
    high_at: Int[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    down: Float[Array, ""]
    up: Float[Array, ""]
    solution: Float[Array, "length"]
    done: Bool[Array, ""]


def _sweep(x: Float[Array, "length"], lam: Float[Array, ""]) -> Float[Array, "length"]:
    """Return the solution, exact but for rounding."""
    last, places = x.size - 1, jnp.arange(x.size, dtype=jnp.int32)

    def begin(s: _Sweep, start, solution, *, low, high, down, up, low_at, high_at) -> _Sweep:
        return _Sweep(start, start, low_at, high_at, low, high, down, up, solution, s.done)

    def fill(s: _Sweep, end, value) -> Float[Array, "length"]:
        return jnp.where((places >= s.first) & (places <= end), value, s.solution)

    def jump_down(s: _Sweep) -> _Sweep:
        start = jnp.minimum(s.low_at + 1, last)
        here = x[start]
        ends = {"low": here, "high": here + 2 * lam, "down": lam, "up": -lam}
        return begin(s, start, fill(s, s.low_at, s.low), low_at=start, high_at=start, **ends)

    def jump_up(s: _Sweep) -> _Sweep:
        start = jnp.minimum(s.high_at + 1, last)
        here = x[start]
        ends = {"low": here - 2 * lam, "high": here, "down": lam, "up": -lam}
        return begin(s, start, fill(s, s.high_at, s.high), low_at=start, high_at=start, **ends)

    def go_on(s: _Sweep) -> _Sweep:
        at = jnp.minimum(s.at + 1, last)
        count = (at - s.first + 1).astype(x.dtype)
        down, up = s.down + x[at] - s.low, s.up + x[at] - s.high
        raises, lowers = down >= lam, up <= -lam
        return s._replace(
            at=at,
            low=jnp.where(raises, s.low + (down - lam) / count, s.low),
            high=jnp.where(lowers, s.high + (up + lam) / count, s.high),
            down=jnp.where(raises, lam, down),
            up=jnp.where(lowers, -lam, up),
            low_at=jnp.where(raises, at, s.low_at),
            high_at=jnp.where(lowers, at, s.high_at),
        )

    def end_down(s: _Sweep) -> _Sweep:
        start = jnp.minimum(s.low_at + 1, last)
        here = x[start]
        ends = {"low": here, "high": s.high, "down": lam, "up": here + lam - s.high}
        return begin(s, start, fill(s, s.low_at, s.low), low_at=start, high_at=s.high_at, **ends)

    def end_up(s: _Sweep) -> _Sweep:
        start = jnp.minimum(s.high_at + 1, last)
        here = x[start]
        ends = {"low": s.low, "high": here, "down": here - lam - s.low, "up": -lam}
        return begin(s, start, fill(s, s.high_at, s.high), low_at=s.low_at, high_at=start, **ends)

    def finish(s: _Sweep) -> _Sweep:
        count = (s.at - s.first + 1).astype(x.dtype)
        solution = fill(s, last, s.low + s.down / count)
        return s._replace(solution=solution, done=jnp.ones((), bool))

    def advance(s: _Sweep) -> _Sweep:
        ahead = x[jnp.minimum(s.at + 1, last)]
        at_end = s.at == last
        inside = jnp.where(
            ahead + s.down < s.low - lam, 0, jnp.where(ahead + s.up > s.high + lam, 1, 2)
        )
        closing = jnp.where(s.down < 0, 3, jnp.where(s.up > 0, 4, 5))
        moves = [jump_down, jump_up, go_on, end_down, end_up, finish]
        return control_flow.switch(jnp.where(at_end, closing, inside), moves, s)

    zero = jnp.zeros((), jnp.int32)
    start = _Sweep(
        zero, zero, zero, zero, x[0] - lam, x[0] + lam, lam, -lam, x, jnp.zeros((), bool)
    )
    return control_flow.while_loop(lambda s: ~s.done, advance, start).solution
