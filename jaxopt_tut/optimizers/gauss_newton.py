"""The Gauss-Newton method for sums of squares."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxopt_tut.losses import first_that_works
from jaxopt_tut.optimizers.damped_least_squares import factors
from jaxopt_tut.optimizers.extra_arguments import require_search
from jaxopt_tut.optimizers.fit_verdict import (
    Largest,
    Verdict,
    column_norms,
    grown,
    judge,
    no_verdict,
    nothing_yet,
)
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search.wolfe import WOLFE
from jaxopt_tut.optimizers.objective import bind, require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Params, PyTree, ScalarOrSchedule, Transformation
from jaxopt_tut.vectors import Vector, ravel


class ScaleByGaussNewtonState(NamedTuple):
    """What the last step of `scale_by_gauss_newton` found."""

    largest: Largest
    verdict: Verdict  # on the point that the last step left
    metric = "dense"  # see `stationarity`


def scale_by_gauss_newton() -> optax.GradientTransformationExtraArgs:
    r"""Replace gradients by the Gauss-Newton direction.

    $$u = J^+ r, \qquad r = r(w), \quad J = \partial r / \partial w$$

    the shortest solution of $\min_u \lVert J u - r \rVert$, so that $J$ may be singular. It
    depends on the residuals alone: whether the loss is their sum of squares, half of it, or the
    mean, makes no difference. The part of `gauss_newton` without the step.

    Returns:
      A transformation from gradients to ascent directions; `update` needs `params` and
      `residual_fn=`.

    Raises:
      TypeError: If a parameter is neither floating nor complex.
      ValueError: From `update`, if `params` or `residual_fn` is missing or the gradients don't
        match the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> residual = lambda w: jnp.array([1.0, 2.0, 3.0]) * w - jnp.array([2.0, 4.0, 6.0])
      >>> transform, w = scale_by_gauss_newton(), jnp.array(5.0)
      >>> update, _ = transform.update(w, transform.init(w), w, residual_fn=residual)
      >>> print(update.round(4))
      3.0

    References:
      Nocedal and Wright (2006), eqs. (10.23) and (10.26).
      https://doi.org/10.1007/978-0-387-40065-5
    """

    def init(params):
        require_inexact(params, "gauss_newton")
        return ScaleByGaussNewtonState(nothing_yet(ravel(params)[0]), no_verdict())

    def update(updates, state, params: Any = None, *, residual_fn: Any = None, **extra_args):
        require_objective("gauss_newton", updates, params, residual_fn=residual_fn)
        residual, jacobian = linearize_residual(bind(residual_fn, extra_args), params)
        w, unravel = ravel(params)
        columns = column_norms(jacobian)
        largest = grown(state.largest, residual, columns)
        of = factors(jacobian / jnp.where(columns > 0, columns, 1))
        g, everywhere = ravel(updates)[0], jnp.ones(w.shape, bool)
        verdict = judge(of, residual, jacobian, w, g, largest, everywhere)
        direction = unravel(jnp.linalg.lstsq(jacobian, residual)[0])
        return direction, ScaleByGaussNewtonState(largest, verdict)

    return optax.GradientTransformationExtraArgs(init, update)


def flat_residual(
    residual_fn: Callable[[Params], PyTree], params: Params
) -> Callable[[Vector], Float[Array, "residuals"]]:
    """Return the residuals as a function from vectors to vectors."""
    w, unravel = ravel(params)
    return lambda v: ravel(residual_fn(unravel(v)))[0].astype(w.dtype)


def linearize_residual(
    residual_fn: Callable[[Params], PyTree], params: Params
) -> tuple[Float[Array, "residuals"], Float[Array, "residuals dim"]]:
    r"""Return the residuals and their Jacobian in terms of vectors.

    $$r(w), \qquad J_{ij} = \partial r_i / \partial w_j$$

    In the mode of fewer passes, or in the other one where that is not defined (a `custom_vjp`, a
    loop of unknown length).
    """
    w, _ = ravel(params)
    flat = flat_residual(residual_fn, params)
    residual = flat(w)
    few, many = jax.jacfwd, jax.jacrev
    if residual.size < w.size:
        few, many = many, few
    return residual, first_that_works(few(flat), many(flat))(w)


def gauss_newton(
    learning_rate: ScalarOrSchedule = 1.0,
    *,
    line_search: Transformation = WOLFE,
) -> optax.GradientTransformationExtraArgs:
    r"""Build the Gauss-Newton method for nonlinear least squares.

    $$w_{t+1} = w_t - \alpha_t\, \eta\, J_t^+ r_t, \qquad f(w) = \tfrac12 \lVert r(w) \rVert^2$$

    Newton's method without second derivatives of the residuals: as fast where these or the
    residuals are small at the solution. Where $J$ is almost singular on the way, prefer
    `levenberg_marquardt`. A step costs $J$ ($\min(m, n)$ derivatives) and its singular value
    decomposition.

    Args:
      learning_rate: Scale $\eta$ of the first step tried; 1 is Gauss-Newton's.
      line_search: What chooses $\alpha$; `optax.identity()` for $\alpha = 1$.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params`,
      `residual_fn=` and, for the line search, `value_fn=`.

    Raises:
      TypeError: If `learning_rate` is of no fitting type, or a parameter neither floating nor
        complex.
      ValueError: If `learning_rate` is no scalar, or is static and not finite; from `update`, if
        `params` or a function is missing or the gradients don't match the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> residual = lambda w: jnp.array([10 * (w[1] - w[0] ** 2), 1 - w[0]])
      >>> loss = lambda w: 0.5 * jnp.sum(residual(w) ** 2)
      >>> start = jnp.array([-1.2, 1.0])
      >>> print(minimize(loss, start, gauss_newton(), residual_fn=residual).params.round(2))
      [1. 1.]

    References:
      Nocedal and Wright (2006), section 10.3. https://doi.org/10.1007/978-0-387-40065-5
    """
    require_search("gauss_newton", line_search)
    return optax.chain(
        scale_by_gauss_newton(),
        scale_by_learning_rate(learning_rate, caller="gauss_newton"),
        line_search,
    )
