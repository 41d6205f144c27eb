"""The exact line search: a bracket, then Brent's root of the slope."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.hyperparameters import cast, require_positive
from jaxopt_tut.optimizers.line_search.search import (
    Evaluate,
    Found,
    Point,
    can_descend,
    line_search,
)
from jaxopt_tut.types import Limit, Number


def exact(
    *, tol: Number | None = None, max_evaluations: Limit = 60
) -> optax.GradientTransformationExtraArgs:
    r"""Search the minimum along the direction.

    $$\alpha = \arg\min_{t > 0} \phi(t), \qquad \phi'(\alpha) = 0, \qquad \phi(t) = f(w + t d)$$

    The step is doubled from 1 until the slope turns (and halved back where the value has risen
    before the slope turned), then Brent's method finds the root of the slope: unlike the minimum
    of the value, it is sharp down to rounding. The gradient at the new point is orthogonal
    to the direction; on a quadratic with Hessian $H$ the step along $-g$ is $g^T g / g^T H g$.
    Rarely worth its evaluations (2 to 10 on a quadratic, else 5 to 15): prefer `wolfe`. It is the
    yardstick that shows the zig-zag of steepest descent.

    Args:
      tol: Share of the slope at the start that may be left; `None` means the root of the unit of
        rounding, in the precision of the parameters. May be traced.
      max_evaluations: How many steps are tried at most.

    Returns:
      A transformation that scales descent directions, for `optax.chain`; it needs `value_fn=`.
      `failed` in its state says that the slope is not flat enough; the lowest bracket end that
      lies below the start is taken then, or none.

    Raises:
      TypeError: If `tol` is neither a number nor an array.
      ValueError: If `tol` is not positive or `max_evaluations` below 1; from `update`, if `params`
        or `value_fn` is missing or the updates don't match the parameters.

    Example:
      On a parabola of curvature 100 the step is 1/100.

      >>> import jax, optax
      >>> loss = lambda w: 50.0 * w**2
      >>> optimizer = optax.chain(optax.sgd(1.0), exact())
      >>> w = jax.numpy.array(1.0)
      >>> updates, state = optimizer.update(
      ...     jax.grad(loss)(w), optimizer.init(w), w, value_fn=loss
      ... )
      >>> print(state[-1].step_size.round(6), (w + updates).round(6))
      0.01 0.0

    References:
      Brent (1973), Algorithms for minimization without derivatives, section 4.2 (`zero`).
    """
    if tol is not None:
        require_positive("exact", tol=tol)
    if counts.is_below(max_evaluations, 1):
        raise ValueError(
            f"exact needs max_evaluations >= 1, got max_evaluations={max_evaluations}."
        )

    def search(evaluate, start: Point) -> Found:
        eps = jnp.finfo(start.slope.dtype).eps
        flat = -start.slope * (eps**0.5 if tol is None else cast(tol, start.slope.dtype))

        def is_flat(b: _Brackets) -> Bool[Array, ""]:
            lower = b.trial.value <= start.value + 10 * eps * jnp.abs(start.value)
            return (jnp.abs(b.trial.slope) <= flat) & lower & (b.count > 0)

        def is_narrow(b: _Brackets) -> Bool[Array, ""]:
            width = jnp.abs(b.above.step - b.below.step)
            return b.is_bracketed & (width <= 2 * eps * b.above.step)

        last = control_flow.while_loop(
            lambda b: (
                ~is_flat(b)
                & ~is_narrow(b)
                & (b.count < counts.as_limit(max_evaluations))
                & jnp.isfinite(b.step)
            ),
            lambda b: _advance(b, evaluate, start),
            _first_brackets(start),
        )
        # the lower end otherwise: the value has not risen there; it is `start` if none is better
        point = optax.tree.where(is_flat(last), last.trial, last.below)
        return Found(point, ~is_flat(last) & ~is_narrow(last), last.count)

    return line_search("exact", search)


class _Brackets(NamedTuple):
    trial: Point  # evaluated last
    below: Point  # the slope is negative here, the value no higher than before
    above: Point  # the slope is positive, or the value has risen
    is_bracketed: Bool[Array, ""]
    step: Float[Array, ""]  # to be tried next
    width: Float[Array, ""]  # of the bracket two trials ago
    last_width: Float[Array, ""]
    count: Int[Array, ""]


def _first_brackets(start: Point) -> _Brackets:
    infinite = jnp.full_like(start.step, jnp.inf)
    return _Brackets(
        trial=start,
        below=start,
        above=start,
        is_bracketed=jnp.zeros_like(start.step, bool),
        step=jnp.where(can_descend(start), 1, jnp.inf).astype(start.step.dtype),
        width=infinite,
        last_width=infinite,
        count=jnp.zeros_like(start.step, jnp.int32),
    )


def _advance(b: _Brackets, evaluate: Evaluate, start: Point) -> _Brackets:
    """Try one step, and move the ends of the bracket."""
    trial = evaluate(b.step)
    finite = jnp.isfinite(trial.value) & jnp.isfinite(trial.slope)
    noise = 10 * jnp.finfo(trial.value.dtype).eps * jnp.abs(start.value)
    is_below = finite & (trial.slope < 0) & (trial.value <= b.below.value + noise)
    below = optax.tree.where(is_below, trial, b.below)
    above = optax.tree.where(is_below, b.above, trial)
    is_bracketed = b.is_bracketed | ~is_below
    width = jnp.abs(above.step - below.step)
    # where the value rose before the slope turned there is no root to interpolate yet
    has_root = finite & (above.slope > 0) & jnp.isfinite(above.value)
    is_slow = width > 0.5 * b.width
    root = _interpolate(below, above, b.trial)
    inside = (root - below.step) * (above.step - root) > 0
    middle = 0.5 * (below.step + above.step)
    step = jnp.where(has_root & inside & ~is_slow, root, middle)
    return _Brackets(
        trial=trial,
        below=below,
        above=above,
        is_bracketed=is_bracketed,
        step=jnp.where(is_bracketed, step, 2 * trial.step),
        width=jnp.where(is_bracketed, b.last_width, jnp.inf),
        last_width=jnp.where(is_bracketed, width, jnp.inf),
        count=b.count + 1,
    )


def _interpolate(a: Point, b: Point, c: Point) -> Float[Array, ""]:
    """Return the root by inverse quadratic interpolation of three slopes, or a secant of two."""
    secant = a.step - a.slope * (b.step - a.step) / (b.slope - a.slope)
    quadratic = (
        a.step * b.slope * c.slope / ((a.slope - b.slope) * (a.slope - c.slope))
        + b.step * a.slope * c.slope / ((b.slope - a.slope) * (b.slope - c.slope))
        + c.step * a.slope * b.slope / ((c.slope - a.slope) * (c.slope - b.slope))
    )
    distinct = (c.slope != a.slope) & (c.slope != b.slope) & (c.step != a.step) & (c.step != b.step)
    return jnp.where(distinct & jnp.isfinite(quadratic), quadratic, secant)
