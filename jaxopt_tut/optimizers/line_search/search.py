"""What the line searches share: the optax transformation around a one-dimensional search."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut.blocks import shown
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers.bounds import Bounds, spread_bounds
from jaxopt_tut.optimizers.objective import bind, part_of, require_objective
from jaxopt_tut.optimizers.projecting import Projection
from jaxopt_tut.optimizers.reverse_mode import refuse_reverse_mode
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, Params, PyTree, Transformation
from jaxopt_tut.vectors import dot, norm, ravel, safe_ratio


@shown
class LineSearchState(NamedTuple):
    """What a line search found.

    `value` and `grad` are those of the point that it stepped to, so that the caller need not
    evaluate them again (`optax.value_and_grad_from_state` reads them).
    """

    step_size: Float[Array, ""]  # the multiple of the incoming update that was taken
    value: Float[Array, ""]
    grad: PyTree
    failed: Bool[Array, ""]  # no step fulfils the conditions: it may be shorter, or 0
    num_evaluations: Int[Array, ""]  # of the value and its gradient, in the last update


class Point(NamedTuple):
    r"""A point on the line, $\phi(t) = f(w + t d)$."""

    step: Float[Array, ""]  # t
    value: Float[Array, ""]  # \phi(t)
    slope: Float[Array, ""]  # \phi'(t)
    grad: PyTree  # \nabla f(w + t d)


class Found(NamedTuple):
    """The outcome of a search."""

    point: Point
    failed: Bool[Array, ""]
    num_evaluations: Int[Array, ""]


def can_descend(start: Point) -> Bool[Array, ""]:
    """Tell whether there is anything to be found along the line."""
    return (start.slope < 0) & jnp.isfinite(start.slope) & jnp.isfinite(start.value)


Evaluate = Callable[[Float[Array, ""]], Point]
"""From a step to the point there."""

Search = Callable[[Evaluate, Point], Found]
"""`search(evaluate, start)`, where `evaluate(step)` returns a `Point` and `start.slope < 0`
unless the direction is bad, in which case the search must return `start`, failed. Under bounds a
step that would leave the box is cut, as `Point.step` says; before a projection one of 1 is the
longest."""


def line_search(caller: str, search: Search) -> optax.GradientTransformationExtraArgs:
    r"""Turn a search along a line into an optax transformation.

    $$u_t = \alpha\, d_t, \qquad \alpha \approx \arg\min_{\alpha > 0} f(w_t + \alpha\, d_t)$$

    Args:
      caller: The name that opens error messages.
      search: What chooses $\alpha$.

    Returns:
      A transformation that scales descent directions. `update` needs `params` and `value_fn`;
      `value` and `grad`, those at `params`, are evaluated where they are not given.
    """

    def init(params):
        require_inexact(params, caller)
        dtype = ravel(params)[0].dtype
        return LineSearchState(
            step_size=jnp.ones([], dtype),
            value=jnp.full([], jnp.inf, dtype),
            grad=jax.tree.map(jnp.zeros_like, params),
            failed=jnp.zeros([], bool),
            num_evaluations=jnp.zeros([], jnp.int32),
        )

    def update(
        updates,
        state,
        params: Any = None,
        *,
        value=None,
        grad=None,
        value_fn: Any = None,
        bounds: Any = None,
        projection: Any = None,
        **extra_args,
    ):
        del state  # each search starts at the step 1
        require_objective(caller, updates, params, value_fn=value_fn)
        value_and_grad = value_and_ascent(bind(value_fn, extra_args))
        known = value is not None and grad is not None
        grad = part_of(grad, params) if known else grad
        value, grad = (value, grad) if known else value_and_grad(params)
        if projection is not None and _is_whole(params):
            updates, longest = _feasible(projection, params, updates, grad), 1.0
        else:
            longest = jnp.inf
        direction, unravel = ravel(updates)
        dtype = direction.dtype

        def point(step, value, grad) -> Point:
            slope = dot(ravel(grad)[0].astype(dtype), direction)
            return Point(step, jnp.asarray(value, dtype), slope, grad)

        wall, inside = _walls(caller, bounds, params, direction)
        longest = jnp.minimum(longest, wall)

        def evaluate(step: Float[Array, ""]) -> Point:
            step = jnp.minimum(step, longest)
            moved = inside(optax.apply_updates(params, unravel(step * direction)))
            return point(step, *value_and_grad(moved))

        start = point(jnp.zeros([], dtype), value, optax.tree.cast_like(grad, params))
        slope = refuse_reverse_mode(start.slope, caller)  # it feels whatever is differentiated
        found = search(evaluate, start._replace(slope=slope))
        # a direction that is infinite or not a number times 0 would not be 0
        moves = found.point.step > 0
        scaled = unravel(jnp.where(moves, found.point.step * direction, 0))
        return scaled, LineSearchState(
            step_size=found.point.step,
            value=found.point.value,
            grad=found.point.grad,
            failed=found.failed,
            num_evaluations=found.num_evaluations + (0 if known else 1),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _feasible(projection: Projection, params: Params, updates: PyTree, grad: PyTree) -> PyTree:
    r"""Return the way to $P(w + d)$ or, where that hardly descends, to $P(w - s g)$.

    All of it lies within a convex set, so that what the search finds is what is stepped to.
    """
    # the feasible directions of Bertsekas (2016), Nonlinear Programming, section 3.3.1
    origin, unravel = ravel(params)
    g, d = ravel(optax.tree.cast_like(grad, params))[0], ravel(updates)[0]
    way = lambda v: ravel(projection(unravel(origin + v)))[0] - origin
    # s = |d| / |g|: the search along d knows the scale of the problem
    scale = safe_ratio(norm(d), norm(g), where=norm(g) > 0)
    chosen, steepest = way(d), way(-scale * g)
    slopes, lengths = (dot(g, chosen), dot(g, steepest)), (norm(chosen), norm(steepest))
    # the cosines of both with the gradient, without a quotient
    descends = slopes[0] * lengths[1] <= 0.9 * slopes[1] * lengths[0]
    return unravel(jnp.where(descends & (slopes[0] < 0), chosen, steepest))


def _is_whole(params: Params) -> bool:
    """Tell whether no part is masked, as one that a projection of the whole cannot take."""
    is_masked = lambda leaf: isinstance(leaf, optax.MaskedNode)
    return not any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked)))


def _walls(
    caller: str, bounds: Bounds | None, params: Params, direction: Float[Array, "dim"]
) -> tuple[Number, Callable[[Params], Params]]:
    """Return the step at which the line leaves the box, and what keeps rounding inside of it."""
    if bounds is None:
        return jnp.inf, lambda tree: tree
    lower, upper = spread_bounds(caller, bounds, params)
    walls = jnp.where(direction > 0, ravel(upper)[0], ravel(lower)[0])
    moves = (direction != 0) & jnp.isfinite(walls)
    room = jnp.where(moves, walls - ravel(params)[0], 0)
    steps = safe_ratio(room, direction, where=moves, otherwise=jnp.inf)
    return jnp.min(steps, initial=jnp.inf), lambda tree: jax.tree.map(jnp.clip, tree, lower, upper)


def as_written(text: str, search: Transformation) -> optax.GradientTransformationExtraArgs:
    """Let a search that is a default print as it is written, so that signatures can be read."""
    members = {"__repr__": lambda _: text, "__slots__": ()}
    return type("LineSearch", (optax.GradientTransformationExtraArgs,), members)(*search)
