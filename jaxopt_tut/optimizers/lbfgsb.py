"""BFGS with limited memory on a box."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxopt_tut import counts
from jaxopt_tut.blocks import shown
from jaxopt_tut.optimizers.bfgs_matrix import bfgs_matrix
from jaxopt_tut.optimizers.bounds import Bounds, spread_bounds
from jaxopt_tut.optimizers.box_model import Box, cauchy_point, face_minimizer
from jaxopt_tut.optimizers.extra_arguments import require_search
from jaxopt_tut.optimizers.line_search import wolfe
from jaxopt_tut.optimizers.line_search.search import as_written
from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Flag, Scalar, Transformation
from jaxopt_tut.vectors import dot, has_moved, magnitude, norm, ravel, safe_ratio


@shown
class ScaleByLBFGSBState(NamedTuple):
    """What the next step of `scale_by_lbfgsb` needs; pairs lie in rows from old to new."""

    last_params: Float[Array, "dim"]
    last_grad: Float[Array, "dim"]  # not `grad`, which optax looks up in line searches
    steps: Float[Array, "memory dim"]  # s; rows of zeros at the front are free
    changes: Float[Array, "memory dim"]  # y, of the gradient along s
    theta: Scalar  # y^T y / s^T y of the newest pair; 0 as long as there is none
    has_point: Flag  # whether there was an update before
    metric = "dense"  # see `stationarity`
    keeps_bounds = True  # `minimize` hands it the bounds instead of projecting its steps


def scale_by_lbfgsb(memory: int | np.integer = 10) -> optax.GradientTransformationExtraArgs:
    r"""Replace gradients by the way from the minimum of a quadratic model on a box.

    $$u = w - \bar w, \qquad \bar w \approx \arg\min_{l \le v \le u}\,
    g^T (v - w) + \tfrac12 (v - w)^T B (v - w)$$

    where $B$ is the BFGS matrix of the last $m$ = `memory` steps and changes of the gradient. First
    the model falls along the projected gradient, to its *Cauchy point*; the coordinates that are at
    a bound there stay, and the others go to the minimum on that face. The part of `lbfgsb` without
    the line search.

    The first update is a projected gradient, shortened to length 1 at most; one that would be lost
    in the rounding of the parameters is lengthened. A pair without positive curvature is left out;
    where the parameters did not move beyond their rounding, as after a failed line search, the
    history is forgotten.

    Args:
      memory: How many pairs $m \ge 1$ are kept; $2m$ copies of the parameters.

    Returns:
      A transformation from gradients to ascent directions; `update` needs `params`, and takes
      `bounds=(lower, upper)`, as `minimize` does. From within the box, a step of 1 ends within it.

    Raises:
      TypeError: If a parameter is neither floating nor complex, or complex under bounds.
      ValueError: If `memory` is below 1; from `update`, if `params` is missing, the gradients or
        the bounds don't match them, or a static lower bound is above the upper one.

    Example:
      The gradient points over the bound of the second coordinate.

      >>> transform, w = scale_by_lbfgsb(), jnp.array([0.5, 0.5])
      >>> g = jnp.array([0.25, -0.75])
      >>> update, _ = transform.update(g, transform.init(w), w, bounds=(0.0, 1.0))
      >>> print(w - update)
      [0.25 1.  ]

    References:
      Byrd, Lu, Nocedal and Zhu (1995), A limited memory algorithm for bound constrained
      optimization, sections 3 to 5. https://doi.org/10.1137/0916069
      Morales and Nocedal (2011), section 2, for the projection of the last step.
      https://doi.org/10.1145/2049662.2049669
    """
    size = counts.whole_number(memory)
    if size is None or size < 1:
        raise ValueError(f"lbfgsb needs an integer memory >= 1, got memory={memory!r}.")

    def init(params):
        require_inexact(params, "lbfgsb")
        vector = jnp.zeros_like(ravel(params)[0])
        pairs = jnp.zeros((size, vector.size), vector.dtype)
        return ScaleByLBFGSBState(
            last_params=vector,
            last_grad=jnp.zeros_like(vector),  # not `vector` again: a buffer is donated once
            steps=pairs,
            changes=jnp.zeros_like(pairs),
            theta=jnp.zeros([], vector.dtype),
            has_point=jnp.zeros([], bool),
        )

    def update(updates, state, params: Any = None, *, bounds: Bounds | None = None, **extra_args):
        del extra_args  # those of the line search behind
        require_objective("lbfgsb", updates, params)
        g, unravel = ravel(updates)
        x = ravel(params)[0]
        state = _absorb(state, x, g)
        box = Box(jnp.full_like(x, -jnp.inf), jnp.full_like(x, jnp.inf))
        if bounds is not None:
            lower, upper = spread_bounds("lbfgsb", bounds, params)
            box = Box(ravel(lower)[0], ravel(upper)[0])
        target, is_usable = _target(state, x, g, box)
        return unravel(x - target), optax.tree.where(is_usable, state, _without_pairs(state))

    return optax.GradientTransformationExtraArgs(init, update)


def _absorb(
    state: ScaleByLBFGSBState, x: Float[Array, "dim"], g: Float[Array, "dim"]
) -> ScaleByLBFGSBState:
    """Append the newest pair, if it is curved; forget all if the last step did not move."""
    s, y = x - state.last_params, g - state.last_grad
    # in units of their sizes products of two neither overflow nor vanish; B feels y / |s| alone
    s_unit, y_unit = magnitude(s), magnitude(y)
    s, y = s / s_unit, y / y_unit
    sy, yy, sg = dot(s, y), dot(y, y), dot(s, g / y_unit)
    moved = state.has_point & has_moved(x, state.last_params)
    # g - y is the last gradient; along the step it fell by a share that is more than rounding
    slope = y_unit / s_unit
    curved = moved & (sy > jnp.finfo(sy.dtype).eps * jnp.abs(sg - sy)) & jnp.isfinite(slope * yy)
    keep = lambda old, new: jnp.where(curved, new, jnp.where(moved, old, 0))
    append = lambda rows, row: keep(rows, jnp.concatenate([rows[1:], row[None]]))
    return ScaleByLBFGSBState(
        last_params=x,
        last_grad=g,
        steps=append(state.steps, s),
        changes=append(state.changes, slope * y),
        theta=keep(state.theta, slope * yy / jnp.where(curved, sy, 1)),
        has_point=jnp.ones([], bool),
    )


def _without_pairs(state: ScaleByLBFGSBState) -> ScaleByLBFGSBState:
    empty = jax.tree.map(jnp.zeros_like, state)
    return empty._replace(
        last_params=state.last_params, last_grad=state.last_grad, has_point=state.has_point
    )


def _target(
    state: ScaleByLBFGSBState, x: Float[Array, "dim"], g: Float[Array, "dim"], box: Box
) -> tuple[Float[Array, "dim"], Flag]:
    """Return the point of the box that the model prefers, and whether the pairs made a model."""
    # without a pair the first step is the projected gradient's, of length 1 at most, and not so
    # short that it is lost beside x
    size = norm(g)
    shortest = jnp.minimum(jnp.finfo(x.dtype).eps ** 0.5 * norm(x), 1)
    first = safe_ratio(size, jnp.clip(size, shortest, 1), where=size > 0, otherwise=1.0)
    theta = jnp.where(state.theta > 0, state.theta, first)
    # the minimum does not feel the scale of the model, but squares of the gradient overflow
    unit = magnitude(g, theta)
    g, first = g / unit, first / unit
    hessian = bfgs_matrix(state.steps, state.changes / unit, theta / unit)
    is_usable = hessian.is_usable
    hessian = optax.tree.where(is_usable, hessian, hessian.reset(first))
    start = cauchy_point(hessian, x, g, box)
    return face_minimizer(hessian, x, g, start, box), is_usable


_WOLFE = as_written("wolfe()", wolfe())


def lbfgsb(
    *, memory: int | np.integer = 10, line_search: Transformation = _WOLFE
) -> optax.GradientTransformationExtraArgs:
    r"""Build the L-BFGS-B method: L-BFGS within bounds.

    $$w_{t+1} = w_t + \alpha_t (\bar w_t - w_t), \qquad l \le w_{t+1} \le u$$

    with $\bar w_t$ from `scale_by_lbfgsb` and $\alpha_t$ from a `line_search.wolfe` that ends at
    the walls of the box. The first choice for a smooth function under bounds, of few parameters or
    many: `minimize(f, w0, lbfgsb(), bounds=(lower, upper))`. Without bounds it is L-BFGS at twice
    the cost a step. A step costs the evaluations of the line search (mostly one), sorting the
    parameters, and some passes over $2m$ copies of them.

    Args:
      memory: How many pairs $m \ge 1$ are kept; 5 to 20.
      line_search: What chooses $\alpha$: one of `line_search`, which stop at the walls, or
        `optax.identity()` for $\alpha = 1$.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params` and
      `value_fn=`, and takes `bounds=(lower, upper)`: numbers, `None`, or trees like the parameters.

    Raises:
      TypeError: From `init`, if a parameter is neither floating nor complex.
      ValueError: If `memory` is below 1; from `update`, if something is missing or does not match.

    Example:
      Rosenbrock's function has its minimum (1, 1) outside of the box.

      >>> from jaxopt_tut.optimizers import minimize
      >>> rosenbrock = lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
      >>> solution = minimize(rosenbrock, jnp.array([0.1, 0.4]), lbfgsb(), bounds=(0.0, 0.5))
      >>> print(solution.params.round(3), solution.active)
      [0.5  0.25] [1 0]

    References:
      Byrd, Lu, Nocedal and Zhu (1995). https://doi.org/10.1137/0916069
    """
    require_search("lbfgsb", line_search)
    return optax.chain(scale_by_lbfgsb(memory), optax.scale(-1.0), line_search)
