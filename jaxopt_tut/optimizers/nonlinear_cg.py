"""Nonlinear conjugate gradients."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxopt_tut.blocks import shown
from jaxopt_tut.optimizers.bfgs import shorten
from jaxopt_tut.optimizers.extra_arguments import require_search
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search import wolfe
from jaxopt_tut.optimizers.line_search.search import as_written
from jaxopt_tut.optimizers.objective import require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import ScalarOrSchedule, Transformation
from jaxopt_tut.vectors import dot, magnitude, norm, ravel


@shown
class ScaleByNonlinearCGState(NamedTuple):
    """What the next step of `scale_by_nonlinear_cg` needs."""

    last_params: Float[Array, "dim"]
    last_grad: Float[Array, "dim"]  # not `grad`, which optax looks up in line searches
    last_direction: Float[Array, "dim"]
    has_point: Bool[Array, ""]  # whether there was a last update


def scale_by_nonlinear_cg() -> optax.GradientTransformation:
    r"""Make gradients conjugate to the directions before, by the rule of Hager and Zhang.

    $$d_t = g_t + \beta_t d_{t-1}, \qquad
    \beta_t = \max\left(\frac{1}{d^T y} \Big(y - 2 d\, \frac{y^T y}{d^T y}\Big)^T g_t,\
    \frac{-1}{\lVert d \rVert \min(10^{-2}, \lVert g_{t-1} \rVert)}\right)$$

    with $d = -d_{t-1}$ and $y = g_t - g_{t-1}$ in $\beta_t$. The direction is scaled so that its
    first-order decrease is that of the last step, a good first length for a line search. The part
    of `nonlinear_cg` without the step.

    Returns:
      A transformation from gradients to ascent directions; `update` needs `params`.

    Raises:
      TypeError: If a parameter is neither floating nor complex.
      ValueError: From `update`, if `params` is missing or the gradients don't match them.

    Example:
      On a quadratic, after an exact step, the next direction is conjugate: Hessian (1, 4), steps
      (1, 1) and d.

      >>> import jax.numpy as jnp
      >>> conjugate = scale_by_nonlinear_cg()
      >>> h, w = jnp.array([1.0, 4.0]), jnp.array([4.0, 1.0])
      >>> first, state = conjugate.update(h * w, conjugate.init(w), w)
      >>> w = w - 0.4 * jnp.array([4.0, 4.0])
      >>> second, state = conjugate.update(h * w, state, w)
      >>> print((first * h * second).sum().round(4))
      0.0

    References:
      Hager and Zhang (2005), eqs. (1.5)-(1.7). https://doi.org/10.1137/030601880
      Nocedal and Wright (2006), eq. (3.60) and before, for the length.
    """

    def init(params):
        require_inexact(params, "nonlinear_cg")
        vector = ravel(params)[0]
        zeros = lambda: jnp.zeros_like(vector)  # one each: donated buffers must not be shared
        return ScaleByNonlinearCGState(zeros(), zeros(), zeros(), jnp.zeros([], bool))

    def update(updates, state, params=None):
        require_objective("nonlinear_cg", updates, params)
        g, unravel = ravel(updates)
        w = ravel(params)[0]
        # in units of their size products of gradients don't over- or underflow
        unit = magnitude(g, state.last_grad, state.last_direction)
        grad, last_grad, d = g / unit, state.last_grad / unit, -state.last_direction / unit
        y = grad - last_grad
        dy = dot(d, y)
        usable = state.has_point & (dy > 0)
        dy = jnp.where(usable, dy, 1)
        beta = (dot(y, grad) - 2 * dot(d, grad) * dot(y, y) / dy) / dy
        norms = norm(state.last_direction) * jnp.minimum(0.01, norm(state.last_grad))
        beta = jnp.maximum(beta, -1 / jnp.where(norms > 0, norms, 1))
        direction = grad - jnp.where(usable, beta, 0) * d
        ascends = dot(direction, grad) > 0
        direction = jnp.where(ascends, direction, grad)
        decrease, slope = dot(last_grad, state.last_params - w), dot(direction, grad)
        known = state.has_point & (decrease > 0) & (slope > 0)
        length = decrease / jnp.where(known, slope, 1)
        scaled = jnp.where(known, length * direction, shorten(unit * direction))
        return unravel(scaled), ScaleByNonlinearCGState(
            w, g, unit * direction, jnp.ones_like(known)
        )

    return optax.GradientTransformation(init, update)


_WOLFE = as_written("wolfe(c2=0.1)", wolfe(c2=0.1))


def nonlinear_cg(
    learning_rate: ScalarOrSchedule = 1.0,
    *,
    line_search: Transformation = _WOLFE,
) -> optax.GradientTransformationExtraArgs:
    r"""Build the nonlinear conjugate gradient method of Hager and Zhang.

    $$w_{t+1} = w_t - \alpha_t\, \eta\, d_t$$

    with $d_t$ from `scale_by_nonlinear_cg`. Three vectors of memory: where not even the history of
    `lbfgs` fits. Else `lbfgs` needs fewer evaluations.

    Args:
      learning_rate: Scale $\eta$ of the first step tried.
      line_search: What chooses $\alpha$; it should be rather exact, as `line_search.wolfe(c2=0.1)`.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params`, and
      `value_fn=` for the line search.

    Raises:
      TypeError: If `learning_rate` is neither a number, an array nor a function, or a parameter
        neither floating nor complex.
      ValueError: If `learning_rate` is no scalar, or is static and not finite; from `update`, if
        `params` or `value_fn` is missing or the gradients don't match the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> bowl = lambda w: (w[0] - 3) ** 2 + 10 * (w[1] + 1) ** 2
      >>> print(minimize(bowl, jnp.zeros(2), nonlinear_cg()).params.round())
      [ 3. -1.]

    References:
      Hager and Zhang (2005). https://doi.org/10.1137/030601880
    """
    require_search("nonlinear_cg", line_search)
    return optax.chain(
        scale_by_nonlinear_cg(),
        scale_by_learning_rate(learning_rate, caller="nonlinear_cg"),
        line_search,
    )
