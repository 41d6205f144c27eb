"""A line search for the strong Wolfe conditions."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.hyperparameters import cast, require_increasing
from jaxopt_tut.optimizers.line_search.interpolation import cubic_minimizer, secant_root
from jaxopt_tut.optimizers.line_search.search import (
    Evaluate,
    Found,
    Point,
    as_written,
    can_descend,
    line_search,
)
from jaxopt_tut.types import Flag, Limit, Number, Scalar

_ROUNDING = 10  # how many units of rounding a difference of two values may carry


def wolfe(
    c1: Number = 1e-4, c2: Number = 0.9, *, max_evaluations: Limit = 30
) -> optax.GradientTransformationExtraArgs:
    r"""Search a step that decreases the value enough and flattens the slope.

    $$\phi(t) \le \phi(0) + c_1 t\, \phi'(0), \qquad |\phi'(t)| \le c_2\, |\phi'(0)|, \qquad
    \phi(t) = f(w + t d)$$

    The step 1 is tried first; while the slope stays negative the step grows two- to fivefold, then
    the bracket shrinks by cubic interpolation, by bisection where that is slow, and by fitting a
    power where the step is far too long. Near a minimum the decrease drowns in the rounding of $f$,
    earlier in float32: there the first condition is replaced by the *approximate* one on slopes,
    $\phi'(t) \le (2 c_1 - 1)\, \phi'(0)$ with $\phi(t) \le \phi(0)$ up to rounding.

    The search of quasi-Newton methods: the second condition keeps their curvature positive. One
    value and gradient a trial, mostly one trial; take $c_2 = 0.1$ for conjugate gradients.

    Args:
      c1: Share $c_1$ of the decrease that the slope promises, 0 < c1 < c2; may be traced, as
        `c2`.
      c2: Share $c_2$ of the slope that may be left, c1 < c2 < 1.
      max_evaluations: How many steps are tried at most.

    Returns:
      A transformation that scales descent directions, for `optax.chain`; it needs `value_fn=`.
      `failed` in its state says that no step tried fulfils the conditions; the best step that
      decreases enough is taken then, or none.

    Raises:
      TypeError: If `c1` or `c2` is neither a number nor an array.
      ValueError: If not 0 < c1 < c2 < 1 or if `max_evaluations` is below 1; from `update`, if
        `params` or `value_fn` is missing or the updates don't match the parameters.

    Example:
      The gradient step 1 is far too long for a curvature of 100.

      >>> import jax, optax
      >>> loss = lambda w: 50.0 * w**2
      >>> optimizer = optax.chain(optax.sgd(1.0), wolfe())
      >>> w = jax.numpy.array(1.0)
      >>> updates, state = optimizer.update(
      ...     jax.grad(loss)(w), optimizer.init(w), w, value_fn=loss
      ... )
      >>> print(updates.round(4), state[-1].failed)
      -1.0 False

    References:
      Nocedal and Wright (2006), Numerical Optimization, eq. (3.7), algorithms 3.5 and 3.6, and
      eq. (3.59) for the cubic. https://doi.org/10.1007/978-0-387-40065-5
      Hager and Zhang (2005), eq. (4.1), for the approximate condition.
      https://doi.org/10.1137/030601880
    """
    require_increasing("wolfe", c1=c1, c2=c2)
    if counts.is_below(max_evaluations, 1):
        raise ValueError(
            f"wolfe needs max_evaluations >= 1, got max_evaluations={max_evaluations}."
        )

    def search(evaluate, start: Point) -> Found:
        dtype = start.slope.dtype
        shares = cast(c1, dtype), cast(c2, dtype)
        final = control_flow.while_loop(
            lambda bracket: ~bracket.done,
            lambda bracket: _shrink(bracket, evaluate, start, *shares, max_evaluations),
            _first_bracket(start),
        )
        stuck = ~final.accepted & (final.low.step == 0)
        return Found(
            point=optax.tree.where(stuck, start, final.trial),
            failed=~final.accepted,
            num_evaluations=final.count,
        )

    return line_search("wolfe", search)


class _Sample(NamedTuple):
    step: Float[Array, ""]
    value: Float[Array, ""]
    slope: Float[Array, ""]


class _Bracket(NamedTuple):
    trial: Point  # evaluated last: the result, once done
    low: _Sample  # decreases enough, lowest value so far
    high: _Sample  # the other end, on the side to which `low` slopes down
    is_bracketed: Bool[Array, ""]
    width: Float[Array, ""]  # of the bracket two trials ago, then one trial ago
    last_width: Float[Array, ""]
    step: Float[Array, ""]  # to be tried next
    is_return: Bool[Array, ""]  # whether it was tried before: the search ends there
    count: Int[Array, ""]
    accepted: Bool[Array, ""]
    done: Bool[Array, ""]


def _first_bracket(start: Point) -> _Bracket:
    origin = _Sample(start.step, start.value, start.slope)
    infinite = jnp.full_like(start.step, jnp.inf)
    never = jnp.zeros_like(start.step, bool)
    return _Bracket(
        trial=start,
        low=origin,
        high=origin,
        is_bracketed=never,
        width=infinite,
        last_width=infinite,
        step=jnp.ones_like(start.step),
        is_return=never,
        count=jnp.zeros_like(start.step, jnp.int32),
        accepted=never,
        done=~can_descend(start),
    )


def _shrink(
    b: _Bracket, evaluate: Evaluate, start: Point, c1: Scalar, c2: Scalar, max_evaluations: Number
) -> _Bracket:
    """Try one step, and move the ends of the bracket."""
    trial = evaluate(b.step)
    finite = jnp.isfinite(trial.value) & jnp.isfinite(trial.slope)
    value = jnp.where(finite, trial.value, jnp.inf)
    sample = _Sample(trial.step, value, trial.slope)
    noise = _ROUNDING * jnp.finfo(value.dtype).eps * jnp.abs(start.value)

    enough = value <= start.value + c1 * trial.step * start.slope
    nearly = (value <= start.value + noise) & (trial.slope <= (2 * c1 - 1) * start.slope)
    decreases = finite & (enough | nearly)
    at_wall = trial.step < b.step  # the box ends there, and the value falls up to it
    flat = (jnp.abs(trial.slope) <= -c2 * start.slope) | (at_wall & (trial.slope < 0))
    accepted = decreases & flat

    tried = b._replace(
        trial=trial, count=b.count + 1, accepted=accepted, done=accepted | b.is_return
    )
    # the first trial mostly is the last: a branch spares it the interpolations
    return control_flow.cond(
        tried.done,
        lambda tried, *_: tried,
        lambda tried, *rest: _move_ends(tried, *rest, max_evaluations=max_evaluations),
        tried,
        sample,
        decreases,
        noise,
    )


def _move_ends(
    b: _Bracket, trial: _Sample, decreases: Flag, noise: Scalar, *, max_evaluations: Number
) -> _Bracket:
    """Narrow the bracket to the half that the trial points to, and choose the next step."""
    too_far = ~decreases | (trial.value > b.low.value + noise)
    # of the two halves, the one into which the trial slopes down
    ahead = jnp.where(b.is_bracketed, b.high.step - b.low.step, 1)
    turns = trial.slope * ahead >= 0
    high = optax.tree.where(too_far, trial, optax.tree.where(turns, b.low, b.high))
    low = optax.tree.where(too_far, b.low, trial)
    is_bracketed = b.is_bracketed | too_far | turns

    width = jnp.abs(high.step - low.step)
    step = jnp.where(
        is_bracketed,
        _inside(low, high, noise, is_slow=width > 0.66 * b.width),
        _beyond(b.low, trial),
    )
    # rounding leaves nothing between the ends
    narrow = is_bracketed & (width <= 4 * jnp.finfo(width.dtype).eps * low.step)
    exhausted = narrow | (b.count >= counts.as_limit(max_evaluations)) | ~jnp.isfinite(step)
    back = exhausted & (low.step > 0) & (low.step != trial.step)
    return b._replace(
        low=low,
        high=high,
        is_bracketed=is_bracketed,
        width=jnp.where(is_bracketed, b.last_width, jnp.inf),
        last_width=jnp.where(is_bracketed, width, jnp.inf),
        step=jnp.where(back, low.step, step),
        is_return=back,
        done=exhausted & ~back,
    )


def _inside(low: _Sample, high: _Sample, noise: Scalar, is_slow: Flag) -> Float[Array, ""]:
    """Return a step between the ends, not too close to either."""
    width = high.step - low.step
    cubic = cubic_minimizer(low, high)
    # equal up to rounding, the values tell nothing, but the slopes do
    rise = high.value - low.value
    flat = (jnp.abs(rise) <= noise) & (low.slope * high.slope < 0)
    share = (jnp.where(flat, secant_root(low, high), cubic) - low.step) / width
    share = jnp.clip(jnp.where(jnp.isfinite(share), share, 0.5), 0.1, 0.9)
    # orders of magnitude too far the excess over the first slope goes like a power of the step
    promised = jnp.abs(low.slope * width)
    excess = rise + promised
    power = jnp.maximum((high.slope * width + promised) / excess, 2)
    far = jnp.clip((promised / (power * excess)) ** (1 / (power - 1)), 1e-4, 0.5)
    share = jnp.where(is_slow, 0.5, jnp.where(rise > 10 * promised, far, share))
    # where f overflows only the order of magnitude is to be found
    share = jnp.where(jnp.isfinite(share) & jnp.isfinite(high.value), share, 0.1)
    return low.step + share * width


def _beyond(low: _Sample, trial: _Sample) -> Float[Array, ""]:
    """Return a step past the trial, where the slope may turn."""
    cubic = cubic_minimizer(low, trial)
    width = trial.step - low.step
    nearest, farthest = trial.step + 1.1 * width, trial.step + 4 * width
    return jnp.clip(jnp.where(cubic > trial.step, cubic, farthest), nearest, farthest)


WOLFE = as_written("wolfe()", wolfe())
"""The search of all methods that model the curvature."""
