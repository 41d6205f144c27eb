"""A backtracking line search for sufficient decrease."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.hyperparameters import cast, require_increasing
from jaxopt_tut.optimizers.line_search.search import Found, Point, can_descend, line_search
from jaxopt_tut.types import Limit, Number


def armijo(
    c1: Number = 1e-4, *, shrink: Number = 0.5, max_evaluations: Limit = 30
) -> optax.GradientTransformationExtraArgs:
    r"""Halve the step until the value decreases enough.

    $$\alpha = \max\{\beta^k : \phi(\beta^k) \le \phi(0) + c_1 \beta^k\, \phi'(0), \
    k = 0, 1, \dots\}, \qquad \phi(t) = f(w + t d)$$

    The cheapest search, and the robust one for directions that have a natural length, as Newton's;
    it never makes a step longer. A change by less than the rounding of $f$ is judged by the slope.
    For quasi-Newton methods prefer `wolfe`, which keeps their curvature positive.

    Args:
      c1: Share $c_1$ of the decrease that the slope promises, 0 < c1 < 1; may be
        traced, as `shrink`.
      shrink: Factor $\beta$ of the step after a failure, 0 < shrink < 1.
      max_evaluations: How many steps are tried at most.

    Returns:
      A transformation that scales descent directions, for `optax.chain`; it needs `value_fn=`.
      If no step tried decreases enough, the update is 0 and `failed` in its state is set.

    Raises:
      TypeError: If `c1` or `shrink` is neither a number nor an array.
      ValueError: If `c1` or `shrink` is outside of (0, 1) or `max_evaluations` below 1; from
        `update`, if `params` or `value_fn` is missing or the updates don't match the parameters.

    Example:
      On a parabola of curvature 100, the gradient step is shortened until it is below 2/100.

      >>> import jax, optax
      >>> loss = lambda w: 50.0 * w**2
      >>> optimizer = optax.chain(optax.sgd(1.0), armijo())
      >>> w = jax.numpy.array(1.0)
      >>> updates, state = optimizer.update(
      ...     jax.grad(loss)(w), optimizer.init(w), w, value_fn=loss
      ... )
      >>> print(1 / state[-1].step_size)
      64.0

    References:
      Armijo (1966), corollary 2. https://doi.org/10.2140/pjm.1966.16.1
      Nocedal and Wright (2006), algorithm 3.1. https://doi.org/10.1007/978-0-387-40065-5
    """
    require_increasing("armijo", c1=c1)
    require_increasing("armijo", shrink=shrink)
    if counts.is_below(max_evaluations, 1):
        raise ValueError(
            f"armijo needs max_evaluations >= 1, got max_evaluations={max_evaluations}."
        )

    def search(evaluate, start: Point) -> Found:
        dtype = start.slope.dtype

        def halve(b: _Backtracking) -> _Backtracking:
            trial = evaluate(b.step)
            share = cast(c1, dtype)
            # where the values differ by rounding alone, the slopes tell, which of a parabola say
            # the same: Hager and Zhang (2005), eq. (4.1). https://doi.org/10.1137/030601880
            noise = 10 * jnp.finfo(dtype).eps * jnp.abs(start.value)
            enough = jnp.where(
                jnp.abs(trial.value - start.value) <= noise,
                trial.slope <= (2 * share - 1) * start.slope,
                trial.value <= start.value + share * b.step * start.slope,
            )
            accepted = enough & jnp.isfinite(trial.slope)
            return _Backtracking(trial, cast(shrink, dtype) * b.step, b.count + 1, accepted)

        first = _Backtracking(
            start, jnp.ones_like(start.step), jnp.zeros([], jnp.int32), ~can_descend(start)
        )
        last = control_flow.while_loop(
            lambda b: ~b.done & (b.count < counts.as_limit(max_evaluations)), halve, first
        )
        failed = ~last.done | ~can_descend(start)
        point = optax.tree.where(failed, start, last.trial)
        return Found(point, failed, last.count)

    return line_search("armijo", search)


class _Backtracking(NamedTuple):
    trial: Point
    step: Float[Array, ""]  # to be tried next
    count: Int[Array, ""]
    done: Bool[Array, ""]
