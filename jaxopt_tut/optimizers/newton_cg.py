"""Newton's method without a matrix: conjugate gradients on Hessian products."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.blocks import shown
from jaxopt_tut.linalg import truncated_cg
from jaxopt_tut.optimizers.extra_arguments import require_search
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search.wolfe import WOLFE
from jaxopt_tut.optimizers.objective import bind, require_objective
from jaxopt_tut.optimizers.reverse_mode import refuse_reverse_mode
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Limit, Params, ScalarOrSchedule, Transformation
from jaxopt_tut.vectors import Vector, norm, ravel


@shown
class ScaleByNewtonCGState(NamedTuple):
    """What the last step of `scale_by_newton_cg` took."""

    num_products: Int[Array, ""]  # of the Hessian and a vector
    is_indefinite: Bool[Array, ""]  # whether it met negative curvature
    metric = "dense"  # see `stationarity`


def scale_by_newton_cg(
    *, max_products: Limit | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Precondition gradients by the inverse Hessian, as far as conjugate gradients lead.

    $$\lVert H u - g \rVert \le \min(\tfrac12, \sqrt{\lVert g \rVert})\, \lVert g \rVert$$

    with $H = \nabla^2 f(w)$, and until a product lowers the quadratic model by no more than half
    the mean: else steps in parameters of very different units see only the steepest of them. The
    solve stops at negative curvature; $u$ always ascends. The part of `newton_cg` without the step.

    Args:
      max_products: Hessian products at most; `None` means 10 times the number of parameters,
        but no more than 1000.

    Returns:
      A transformation from gradients to preconditioned gradients; `update` needs `params` and
      `value_fn=`.

    Raises:
      TypeError: If a parameter is neither floating nor complex.
      ValueError: If `max_products` is below 1; from `update`, if `params` or `value_fn` is missing
        or the gradients don't match the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = lambda w: jnp.sum(jnp.array([1.0, 4.0]) * w**2)
      >>> w = jnp.array([4e-4, -1e-4])
      >>> precondition = scale_by_newton_cg()
      >>> update, state = precondition.update(
      ...     jnp.array([2.0, 8.0]) * w, precondition.init(w), w, value_fn=loss
      ... )
      >>> print((1e4 * update).round(1), state.num_products)
      [ 4. -1.] 2

    References:
      Nocedal and Wright (2006), algorithm 7.1. https://doi.org/10.1007/978-0-387-40065-5
    """
    if max_products is not None and counts.is_below(max_products, 1):
        raise ValueError(f"newton_cg needs max_products >= 1, got max_products={max_products}.")

    def init(params):
        require_inexact(params, "newton_cg")
        return ScaleByNewtonCGState(jnp.zeros([], jnp.int32), jnp.zeros([], bool))

    def update(updates, state, params: Any = None, *, value_fn: Any = None, **extra_args):
        del state  # it is for people to read
        require_objective("newton_cg", updates, params, value_fn=value_fn)
        g, unravel = ravel(updates)
        size = refuse_reverse_mode(norm(g), "newton_cg")
        found = truncated_cg(
            hessian_product(bind(value_fn, extra_args), params),
            g,
            tol=jnp.minimum(0.5, jnp.sqrt(size)) * size,
            model_tol=0.5,
            max_steps=min(10 * max(g.size, 1), 1000) if max_products is None else max_products,
        )
        step = jnp.where(jnp.isfinite(size), -found.step, jnp.nan)  # else 0 would look converged
        return unravel(step), ScaleByNewtonCGState(found.num_products, found.is_indefinite)

    return optax.GradientTransformationExtraArgs(init, update)


def hessian_product(fun: Callable[[Params], Any], params: Params) -> Callable[[Vector], Vector]:
    r"""Return the product with the Hessian in terms of vectors.

    $$v \mapsto \nabla^2 f(w)\, v, \quad \text{the gradient being linearized once}$$
    """
    w, unravel = ravel(params)
    gradient = jax.grad(lambda v: fun(unravel(v)))
    push = jax.linearize(gradient, w)[1]
    return lambda v: push(control_flow.like(v, w))


def newton_cg(
    learning_rate: ScalarOrSchedule = 1.0,
    *,
    max_products: Limit | None = None,
    line_search: Transformation = WOLFE,
) -> optax.GradientTransformationExtraArgs:
    r"""Build the Newton-CG method.

    $$w_{t+1} = w_t - \alpha_t\, \eta\, u_t, \qquad H_t u_t \approx g_t$$

    with $u_t$ from `scale_by_newton_cg`: roughly solved far from a minimum, more and more exactly
    near it, so that the convergence is superlinear. For many parameters; a Hessian product costs
    about two gradients, and no matrix is kept.

    Args:
      learning_rate: Scale $\eta$ of the first step tried; 1 is Newton's.
      max_products: Hessian products a step at most; `None` means 10 times the number of
        parameters, but no more than 1000.
      line_search: What chooses $\alpha$; `optax.identity()` for $\alpha = 1$.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params` and
      `value_fn=`.

    Raises:
      TypeError: If `learning_rate` is of no fitting type, or a parameter neither floating nor
        complex.
      ValueError: If `max_products` is below 1 or `learning_rate` is no scalar, or is static and not
        finite; from `update`, if `params` or `value_fn` is missing or the gradients don't match
        the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> bowl = lambda w: (w[0] - 3) ** 2 + 1000 * (w[1] + 1) ** 2
      >>> print(minimize(bowl, jnp.zeros(2), newton_cg()).params.round())
      [ 3. -1.]

    References:
      Nocedal and Wright (2006), algorithm 7.1. https://doi.org/10.1007/978-0-387-40065-5
      Dembo and Steihaug (1983), for the tolerance. https://doi.org/10.1007/BF02592055
      Nash and Sofer (1990), for the test on the model. https://doi.org/10.1016/0167-6377(90)90026-5
    """
    require_search("newton_cg", line_search)
    return optax.chain(
        scale_by_newton_cg(max_products=max_products),
        scale_by_learning_rate(learning_rate, caller="newton_cg"),
        line_search,
    )
