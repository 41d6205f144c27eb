"""The quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno, with a dense matrix."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxopt_tut.blocks import shown
from jaxopt_tut.optimizers.extra_arguments import require_search
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search.wolfe import WOLFE
from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import ScalarOrSchedule, Transformation
from jaxopt_tut.vectors import Vector, dot, has_moved, magnitude, matmul, norm, ravel


@shown
class ScaleByBFGSState(NamedTuple):
    """What the next step of `scale_by_bfgs` needs."""

    inverse_hessian: Float[Array, "dim dim"]
    last_params: Float[Array, "dim"]
    last_grad: Float[Array, "dim"]  # not `grad`, which optax looks up in line searches
    has_point: Bool[Array, ""]  # whether there was a last update
    has_curvature: Bool[Array, ""]  # whether a pair went into the matrix since the (re)start
    metric = "dense"  # see `stationarity`


def scale_by_bfgs() -> optax.GradientTransformation:
    r"""Precondition gradients by the BFGS estimate of the inverse Hessian.

    $$u_t = H_t g_t, \qquad H_{t+1} = (I - \rho\, s y^T) H_t (I - \rho\, y s^T) + \rho\, s s^T,
    \qquad \rho = 1 / s^T y$$

    with $s = w_{t+1} - w_t$ and $y = g_{t+1} - g_t$. The part of `bfgs` without the step. The
    first update is the gradient, shortened to length 1 at most; $H$ starts as the identity (scaled
    by the first pair, which sees the steepest direction, it would hardly move in the others) but
    for units: at most $10^4$ times the first pair's $s^T s / s^T y$, and just that above 100. A
    pair without positive curvature leaves $H$ as it is; where the parameters did not move beyond
    their rounding, as after a failed line search, or if $u_t$ does not ascend, $H$ starts afresh.

    Returns:
      A transformation from gradients to preconditioned gradients; `update` needs `params`.

    Raises:
      TypeError: If a parameter is neither floating nor complex.
      ValueError: From `update`, if `params` is missing or the gradients don't match them.

    Example:
      After one exact step the matrix knows the curvature 4 along it, so the next one is Newton's.

      >>> import jax.numpy as jnp
      >>> precondition = scale_by_bfgs()
      >>> state = precondition.init(jnp.array([1.0]))
      >>> for w in (jnp.array([1.0]), jnp.array([0.5])):
      ...     update, state = precondition.update(4 * w, state, w)
      >>> print(update)
      [0.5]

    References:
      Nocedal and Wright (2006), eq. (6.17), but for the scale (6.20) of the first matrix.
      https://doi.org/10.1007/978-0-387-40065-5
    """

    def init(params):
        require_inexact(params, "bfgs")
        vector = jnp.zeros_like(ravel(params)[0])
        return ScaleByBFGSState(
            inverse_hessian=jnp.eye(vector.size, dtype=vector.dtype),
            last_params=vector,
            last_grad=jnp.zeros_like(vector),  # not `vector` again: a buffer is donated once
            has_point=jnp.zeros([], bool),
            has_curvature=jnp.zeros([], bool),
        )

    def update(updates, state, params=None):
        require_objective("bfgs", updates, params)
        g, unravel = ravel(updates)
        w = ravel(params)[0]
        inverse_hessian, has_curvature = _absorb(state, w, g)
        direction = jnp.where(has_curvature, matmul(inverse_hessian, g), shorten(g))
        ascends = dot(direction, g) > 0
        direction = jnp.where(ascends, direction, shorten(g))
        return unravel(direction), ScaleByBFGSState(
            inverse_hessian, w, g, jnp.ones_like(ascends), has_curvature & ascends
        )

    return optax.GradientTransformation(init, update)


def _absorb(
    state: ScaleByBFGSState, w: Vector, g: Vector
) -> tuple[Float[Array, "dim dim"], Bool[Array, ""]]:
    """Return the matrix that maps `y` to `s` and is nearest to the old one."""
    s, y = w - state.last_params, g - state.last_grad
    moved = has_moved(w, state.last_params)
    curved = state.has_point & moved & is_curved(s, y)
    # in units of its size a product of two changes of the gradient does not overflow
    s_unit, y_unit = magnitude(s), magnitude(y)
    s, y, ratio = s / s_unit, y / y_unit, s_unit / y_unit
    rho = 1 / jnp.where(curved, dot(s, y), 1)
    first = _first_scale(ratio * dot(s, s) * rho) * jnp.eye(s.size, dtype=s.dtype)
    h = jnp.where(state.has_curvature, state.inverse_hessian, first)
    hy = matmul(h, y) / ratio
    # the rank-two form of the update: a product of a matrix and a vector, no matrix product
    half = jnp.outer(0.5 * (1 + rho * dot(y, hy)) * s - hy, ratio * rho * s)
    new = h + (half + half.T)  # symmetric to the last bit: else rounding errors grow
    return jnp.where(curved, new, h), curved | (state.has_curvature & moved)


def _first_scale(inverse_curvature: Float[Array, ""]) -> Float[Array, ""]:
    """Return 1, or what brings the first matrix within some orders of the curvature it met."""
    is_short = inverse_curvature > 1e2
    scale = jnp.where(is_short, inverse_curvature, jnp.minimum(1, 1e4 * inverse_curvature))
    return jnp.where(jnp.isfinite(scale) & (scale > 0), scale, 1)


def is_curved(s: Float[Array, "dim"], y: Float[Array, "dim"]) -> Bool[Array, ""]:
    r"""Tell whether a pair shows positive curvature beyond rounding.

    $$s^T y > \epsilon\, \lVert s \rVert\, \lVert y \rVert$$
    """
    s, y = s / magnitude(s), y / magnitude(y)
    sy, bound = dot(s, y), jnp.sqrt(dot(s, s)) * jnp.sqrt(dot(y, y))
    return (sy > jnp.finfo(sy.dtype).eps * bound) & jnp.isfinite(bound)


def shorten(g: Float[Array, "dim"]) -> Float[Array, "dim"]:
    r"""Shorten a gradient to length 1 at most: the first direction, when no scale is known.

    $$d = g / \max(1, \lVert g \rVert)$$

    A gradient whose square underflows is made length 1, too.
    """
    size = norm(g)
    # where the square underflows no line search could see that it is too short
    is_tiny = size < jnp.sqrt(jnp.finfo(g.dtype).tiny)
    return g / jnp.where(is_tiny & (size > 0), size, jnp.maximum(size, 1))


def bfgs(
    learning_rate: ScalarOrSchedule = 1.0,
    *,
    line_search: Transformation = WOLFE,
) -> optax.GradientTransformationExtraArgs:
    r"""Build the BFGS method.

    $$w_{t+1} = w_t - \alpha_t\, \eta\, H_t g_t$$

    with $H_t$ from `scale_by_bfgs` and $\alpha_t$ from the line search. Near a minimum it converges
    superlinearly from gradients alone: the first choice for up to some hundreds of parameters and
    a gradient without noise. Each step costs the evaluations of the line search (mostly one),
    some $5 n^2$ operations, and $n^2$ numbers of memory; from a thousand parameters on `lbfgs`.

    Args:
      learning_rate: Scale $\eta$ of the first step tried; 1 is right for quasi-Newton methods.
      line_search: What chooses $\alpha$, e.g. `line_search.armijo()`, or `optax.identity()` for
        $\alpha = 1$.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params`, and
      `value_fn=` for the line search.

    Raises:
      TypeError: If `learning_rate` is neither a number, an array nor a function; from `init`, if a
        parameter is neither floating nor complex.
      ValueError: If `learning_rate` is no scalar, or is static and not finite; from `update`, if
        `params` or `value_fn` is missing or the gradients don't match the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> bowl = lambda w: (w[0] - 3) ** 2 + 100 * (w[1] + 1) ** 2
      >>> print(minimize(bowl, jnp.zeros(2), bfgs()).params.round(2))
      [ 3. -1.]

    References:
      Nocedal and Wright (2006), algorithm 6.1. https://doi.org/10.1007/978-0-387-40065-5
    """
    require_search("bfgs", line_search)
    return optax.chain(
        scale_by_bfgs(), scale_by_learning_rate(learning_rate, caller="bfgs"), line_search
    )
