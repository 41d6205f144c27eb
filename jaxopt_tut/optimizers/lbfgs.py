"""BFGS with limited memory, by the two-loop recursion."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxopt_tut import control_flow, counts
from jaxopt_tut.blocks import shown
from jaxopt_tut.optimizers.bfgs import shorten
from jaxopt_tut.optimizers.extra_arguments import require_search
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search.wolfe import WOLFE
from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Count, Scalar, ScalarOrSchedule, Transformation
from jaxopt_tut.vectors import Vector, dot, has_moved, magnitude, ravel


@shown
class ScaleByLBFGSState(NamedTuple):
    """What the next step of `scale_by_lbfgs` needs.

    The pairs lie in a ring of `memory + 1` places: the one after the newest pair is free to take a
    pair that may yet be rejected.
    """

    last_params: Vector
    last_grad: Vector  # not `grad`, which optax looks up in line searches
    steps: Float[Array, "memory+1 dim"]  # s
    changes: Float[Array, "memory+1 dim"]  # y, of the gradient along s
    inverse_curvatures: Float[Array, "memory+1"]  # 1 / s^T y; 0 where the ring is unused
    scale: Scalar  # gamma; 0 as long as there is no pair
    count: Count  # pairs absorbed so far; -1 before the first update
    metric = "dense"  # see `stationarity`


def scale_by_lbfgs(memory: int | np.integer = 10) -> optax.GradientTransformation:
    r"""Precondition gradients by the BFGS matrix of the last few steps.

    $$u = H_t\, g, \qquad H_k = \left( I - \frac{s_k y_k^T}{s_k^T y_k} \right) H_{k-1}
    \left( I - \frac{y_k s_k^T}{s_k^T y_k} \right) + \frac{s_k s_k^T}{s_k^T y_k}, \qquad
    H_{t-m} = \frac{s_t^T y_t}{y_t^T y_t}\, I$$

    over the last $m$ = `memory` steps $s_k$ and changes $y_k$ of the gradient. The matrix is never
    formed: one loop from the newest pair to the oldest applies the right factors, a second loop
    back the left ones.

    The first update is the gradient, shortened to length 1 at most. A pair without positive
    curvature is left out; where the parameters did not move beyond their rounding, as after a
    failed line search, the history is forgotten.

    Args:
      memory: How many pairs $m \ge 1$ are kept; $2m$ copies of the parameters.

    Returns:
      A transformation from gradients to preconditioned gradients; `update` needs `params`.

    Raises:
      TypeError: If a parameter is neither floating nor complex.
      ValueError: If `memory` is below 1; from `update`, if `params` is missing or the gradients
        don't match them.

    Example:
      After one step the curvature 4 along it is known, so the next one is Newton's.

      >>> import jax.numpy as jnp
      >>> precondition = scale_by_lbfgs(memory=3)
      >>> state = precondition.init(jnp.array([1.0]))
      >>> for w in (jnp.array([1.0]), jnp.array([0.5])):
      ...     update, state = precondition.update(4 * w, state, w)
      >>> print(update.round(4))
      [0.5]

    References:
      Nocedal (1980), Updating quasi-Newton matrices with limited storage.
      https://doi.org/10.1090/S0025-5718-1980-0572855-7
      Nocedal and Wright (2006), algorithm 7.4 and eq. (7.20).
      https://doi.org/10.1007/978-0-387-40065-5
    """
    size = counts.whole_number(memory)
    if size is None or size < 1:
        hint = ""
        if isinstance(memory, jax.Array):
            hint = ' It sets shapes: optax.inject_hyperparams(lbfgs, static_args=("memory",)).'
        raise ValueError(f"lbfgs needs an integer memory >= 1, got memory={memory!r}.{hint}")

    def init(params):
        require_inexact(params, "lbfgs")
        vector = jnp.zeros_like(ravel(params)[0])
        return ScaleByLBFGSState(
            last_params=vector,
            last_grad=jnp.zeros_like(vector),  # not `vector` again: a buffer is donated once
            steps=jnp.zeros((size + 1, vector.size), vector.dtype),
            changes=jnp.zeros((size + 1, vector.size), vector.dtype),
            inverse_curvatures=jnp.zeros(size + 1, vector.dtype),
            scale=jnp.zeros([], vector.dtype),
            count=jnp.full([], -1, jnp.int32),
        )

    def update(updates, state, params=None):
        require_objective("lbfgs", updates, params)
        g, unravel = ravel(updates)
        state, newest = _absorb(state, ravel(params)[0], g)
        return unravel(_precondition(state, newest, g)), state

    return optax.GradientTransformation(init, update)


def _absorb(
    state: ScaleByLBFGSState, w: Float[Array, "dim"], g: Float[Array, "dim"]
) -> tuple[ScaleByLBFGSState, Count]:
    """Write the newest pair into the ring, if it is curved; return its place, too."""
    s, y = w - state.last_params, g - state.last_grad
    # in units of its size a product of two changes of the gradient does not overflow
    s_unit, y_unit = magnitude(s), magnitude(y)
    unit, scaled_s, scaled_y = s_unit * y_unit, s / s_unit, y / y_unit
    sy, yy, sg = dot(scaled_s, scaled_y), dot(scaled_y, scaled_y), dot(scaled_s, g / y_unit)
    has_point = state.count >= 0
    moved = has_moved(w, state.last_params)
    # g - y is the last gradient; along the step it fell by a share that is more than rounding
    falls = sy > jnp.finfo(sy.dtype).eps * jnp.abs(sg - sy)
    inverse_curvature = 1 / (unit * jnp.where(falls, sy, 1))
    curved = has_point & moved & falls & (inverse_curvature > 0) & jnp.isfinite(inverse_curvature)

    place = jnp.maximum(state.count, 0) % len(state.steps)
    taken = curved.astype(jnp.int32)
    inverse_curvatures = jnp.where(moved, state.inverse_curvatures, 0)
    state = ScaleByLBFGSState(
        last_params=w,
        last_grad=g,
        steps=state.steps.at[place].set(s),
        changes=state.changes.at[place].set(y),
        inverse_curvatures=inverse_curvatures.at[place].set(
            jnp.where(curved, inverse_curvature, 0)
        ),
        scale=jnp.where(
            curved,
            sy / jnp.where(curved, yy, 1) * (s_unit / y_unit),
            jnp.where(moved, state.scale, 0),
        ),
        count=jnp.maximum(state.count + taken, 0),
    )
    return state, place - 1 + taken


def _precondition(
    state: ScaleByLBFGSState, newest: Count, g: Float[Array, "dim"]
) -> Float[Array, "dim"]:
    """Multiply g with the inverse Hessian that the pairs tell of."""
    size = len(state.steps)
    # every place but the free one; unused ones have no weight
    places = (newest - jnp.arange(size - 1, dtype=newest.dtype)) % size

    def right_factor(u, place):
        share = state.inverse_curvatures[place] * dot(state.steps[place], u)
        return u - share * state.changes[place], share

    def left_factor(u, place_and_share):
        place, share = place_and_share
        share -= state.inverse_curvatures[place] * dot(state.changes[place], u)
        return u + share * state.steps[place], None

    u, shares = control_flow.scan(right_factor, g, places)
    u = jnp.where(state.scale > 0, state.scale * u, shorten(u))
    return control_flow.scan(left_factor, u, (places, shares), reverse=True)[0]


def lbfgs(
    learning_rate: ScalarOrSchedule = 1.0,
    *,
    memory: int | np.integer = 10,
    line_search: Transformation = WOLFE,
) -> optax.GradientTransformationExtraArgs:
    r"""Build the L-BFGS method.

    $$w_{t+1} = w_t - \alpha_t\, \eta\, H_t g_t$$

    with $H_t g_t$ from `scale_by_lbfgs` and $\alpha_t$ from the line search. The first choice for a
    smooth loss of many parameters whose gradient has no noise. Each step costs the evaluations of
    the line search (mostly one) and two passes over $2 m$ copies of the parameters.

    Args:
      learning_rate: Scale $\eta$ of the first step tried; 1 is right for quasi-Newton methods.
      memory: How many pairs $m \ge 1$ are kept; 5 to 20, more on ill-conditioned problems.
      line_search: What chooses $\alpha$, e.g. `line_search.armijo()`, or `optax.identity()` for
        $\alpha = 1$.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params`, and
      `value_fn=` for the line search.

    Raises:
      TypeError: If `learning_rate` is neither a number, an array nor a function; from `init`, if a
        parameter is neither floating nor complex.
      ValueError: If `memory` is below 1, or if `learning_rate` is no scalar, or is static and not
        finite; from `update`, if `params` or `value_fn` is missing or the gradients don't match
        the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> bowl = lambda w: jnp.sum(jnp.array([1.0, 10.0, 100.0]) * (w - 2) ** 2)
      >>> print(minimize(bowl, jnp.zeros(3), lbfgs()).params.round(2))
      [2. 2. 2.]

    References:
      Nocedal and Wright (2006), algorithm 7.5. https://doi.org/10.1007/978-0-387-40065-5
    """
    require_search("lbfgs", line_search)
    return optax.chain(
        scale_by_lbfgs(memory), scale_by_learning_rate(learning_rate, caller="lbfgs"), line_search
    )
