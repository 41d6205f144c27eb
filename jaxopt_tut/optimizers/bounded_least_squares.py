r"""A step of damped linear least squares that stays in a box.

$$\min_p \lVert A p + b \rVert^2, \qquad \lVert p \rVert \lesssim \Delta, \quad l \le p \le u$$

By active sets: what the minimum in the ball carries over a bound stops there, and the others take
the minimum that is left to them, until none is carried over. Where that is far behind the steepest
descent along the box, which keeps the search going to a stationary point, this one is taken.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_tut import control_flow
from jaxopt_tut.optimizers.box_model import Box
from jaxopt_tut.optimizers.damped_least_squares import Factors, damped, damping_within, factors
from jaxopt_tut.types import Flag, Scalar
from jaxopt_tut.vectors import Vector, dot, matmul, norm, safe_ratio


class Step(NamedTuple):
    """A step, and the columns that it is the damped minimum of."""

    p: Vector
    damping: Scalar
    of: Factors
    matrix: Float[Array, "rows dim"]  # columns at a bound are 0
    is_newton: Flag  # neither the ball nor a bound nor steepest descent had a say


def free_within(box: Box, gradient: Vector) -> Bool[Array, "dim"]:
    """Tell which coordinates of 0 may follow the gradient downwards."""
    at_wall = ((box.lower >= 0) & (gradient > 0)) | ((box.upper <= 0) & (gradient < 0))
    return ~at_wall & (box.lower < box.upper)


def step_in_ball(
    of: Factors, matrix: Float[Array, "rows dim"], b: Float[Array, "rows"], radius: Scalar
) -> Step:
    """Return the minimum in the ball, where there is no box."""
    damping = damping_within(of, matrix, b, radius)
    return Step(damped(of, matrix, b, damping), damping, of, matrix, damping == 0)


class _Pass(NamedTuple):
    step: Step
    stopped: Vector  # the steps of those that met a bound
    free: Bool[Array, "dim"]
    done: Flag


def step_in_box(
    of: Factors,
    matrix: Float[Array, "rows dim"],
    b: Float[Array, "rows"],
    radius: Scalar,
    box: Box,
    free: Bool[Array, "dim"],
) -> Step:
    """Return a step in the box, of which `of` decomposes the columns of `free`."""
    gradient = matmul(b, matrix)

    def among(of: Factors, stopped: Vector, free: Bool[Array, "dim"]) -> _Pass:
        columns = jnp.where(free, matrix, 0)
        step = step_in_ball(of, columns, b + matmul(matrix, stopped), radius)
        p = jnp.where(free, step.p, stopped)
        over = free & ((p < box.lower) | (p > box.upper))
        stopped = jnp.where(over, box.clip(p), stopped)
        return _Pass(step._replace(p=p), stopped, free & ~over, ~jnp.any(over))

    def without_those_over(last: _Pass) -> _Pass:
        return among(factors(jnp.where(last.free, matrix, 0)), last.stopped, last.free)

    first = among(of, jnp.zeros_like(gradient), free)
    last = control_flow.while_loop(lambda at: ~at.done, without_those_over, first)
    step = last.step._replace(is_newton=last.step.is_newton & first.done)

    def decrease(p: Vector) -> Scalar:
        moved = matmul(matrix, p)
        return -2 * dot(gradient, p) - dot(moved, moved)

    cauchy = _cauchy(matrix, gradient, radius, box, free)
    noise = 10 * jnp.finfo(b.dtype).eps * dot(b, b)
    is_behind = decrease(step.p) + noise < 0.1 * decrease(cauchy)
    return step._replace(
        p=jnp.where(is_behind, cauchy, step.p), is_newton=step.is_newton & ~is_behind
    )


def _cauchy(
    matrix: Float[Array, "rows dim"],
    gradient: Vector,
    radius: Scalar,
    box: Box,
    free: Bool[Array, "dim"],
) -> Vector:
    """Go down the gradient, into the box, and as far along the chord as the model falls."""
    down = jnp.where(free, -gradient, 0)
    size, moved = norm(down), norm(matmul(matrix, down))
    length = jnp.minimum(safe_ratio(size, moved) ** 2, safe_ratio(radius, size))
    chord = box.clip(length * down)
    along = matmul(matrix, chord)
    share = safe_ratio(-dot(gradient, chord), dot(along, along), otherwise=1.0)
    return jnp.clip(share, 0, 1) * chord
