"""Newton's method with the dense Hessian."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.hyperparameters import cast, require_nonnegative
from jaxopt_tut.linalg import saddle_free_solve
from jaxopt_tut.optimizers.extra_arguments import require_search
from jaxopt_tut.optimizers.learning_rate import scale_by_learning_rate
from jaxopt_tut.optimizers.line_search.wolfe import WOLFE
from jaxopt_tut.optimizers.objective import bind, require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, ScalarOrSchedule, Transformation
from jaxopt_tut.vectors import Vector, ravel

Solve = TypeAliasType("Solve", Callable[[Float[Array, "dim dim"], Vector], Vector])
"""From a Hessian and a gradient to a direction of ascent."""


class ScaleByNewtonState(NamedTuple):
    """The state of `scale_by_newton`: nothing."""

    metric = "dense"  # see `stationarity`


def scale_by_newton(
    *,
    damping: Number = 0.0,
    solve: Solve | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Precondition gradients by the inverse Hessian.

    $$u = (H + \mu I)^{-1} g, \qquad H = \nabla^2 f(w)$$

    The part of `newton` without the step.

    Args:
      damping: $\mu \ge 0$, in units of the curvature; may be traced.
      solve: `solve(hessian, gradient)`; `linalg.saddle_free_solve`, which `None` means, and
        `linalg.modified_cholesky_solve` see to it that $g^T u > 0$.

    Returns:
      A transformation from gradients to preconditioned gradients; `update` needs `params` and
      `value_fn=`.

    Raises:
      TypeError: If `damping` is no number, or a parameter neither floating nor complex.
      ValueError: If a static `damping` is negative or not finite; from `update`, if `params` or
        `value_fn` is missing or the gradients don't match the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = lambda w: jnp.sum(jnp.array([1.0, 50.0]) * w**2)
      >>> w = jnp.array([3.0, -4.0])
      >>> precondition = scale_by_newton()
      >>> update, _ = precondition.update(
      ...     jnp.array([6.0, -400.0]), precondition.init(w), w, value_fn=loss
      ... )
      >>> print(update.round(4))  # what is to be subtracted to reach the minimum
      [ 3. -4.]

    References:
      Nocedal and Wright (2006), eq. (3.30). https://doi.org/10.1007/978-0-387-40065-5
    """
    require_nonnegative("newton", damping=damping)

    def init(params):
        require_inexact(params, "newton")
        return ScaleByNewtonState()

    def update(updates, state, params: Any = None, *, value_fn: Any = None, **extra_args):
        require_objective("newton", updates, params, value_fn=value_fn)
        fun = bind(value_fn, extra_args)
        g, unravel = ravel(updates)
        w, unravel_params = ravel(params)
        hessian = jax.hessian(lambda v: fun(unravel_params(v)))(w).astype(g.dtype)
        hessian = hessian + cast(damping, g.dtype) * jnp.eye(g.size, dtype=g.dtype)
        return unravel((solve or saddle_free_solve)(hessian, g)), state

    return optax.GradientTransformationExtraArgs(init, update)


def newton(
    learning_rate: ScalarOrSchedule = 1.0,
    *,
    damping: Number = 0.0,
    solve: Solve | None = None,
    line_search: Transformation = WOLFE,
) -> optax.GradientTransformationExtraArgs:
    r"""Build Newton's method.

    $$w_{t+1} = w_t - \alpha_t\, \eta\, (H_t + \mu I)^{-1} g_t, \qquad H_t = \nabla^2 f(w_t)$$

    Converges quadratically near a minimum and whatever the conditioning; where the Hessian is
    indefinite or singular, `solve` modifies it so that the step descends: by default it takes the
    absolute values of the eigenvalues, which is the more robust way;
    `linalg.modified_cholesky_solve` shifts them all, for a tenth of the work. A step costs $n$
    Hessian products and some $10 n^3$ operations, and memory for $n^2$ numbers: up to a few hundred
    parameters; above, `newton_cg`, `trust_region` or `lbfgs`.

    Args:
      learning_rate: Scale $\eta$ of the first step tried; 1 is Newton's.
      damping: $\mu \ge 0$, in units of the curvature; may be traced.
      solve: `solve(hessian, gradient)`, which must return an ascent direction; `None` means
        `linalg.saddle_free_solve`.
      line_search: What chooses $\alpha$; `optax.identity()` for $\alpha = 1$.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params` and
      `value_fn=`.

    Raises:
      TypeError: If a hyper-parameter is of no fitting type, or a parameter neither floating nor
        complex.
      ValueError: If a hyper-parameter is static and out of its range; from `update`, if `params`
        or `value_fn` is missing or the gradients don't match the parameters.

    Example:
      A quadratic takes one step.

      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> bowl = lambda w: (w[0] - 3) ** 2 + 16 * (w[1] + 1) ** 2
      >>> solution = minimize(bowl, jnp.zeros(2), newton())
      >>> print(solution.params.round(), solution.steps)
      [ 3. -1.] 1

    References:
      Nocedal and Wright (2006), algorithm 3.2. https://doi.org/10.1007/978-0-387-40065-5
    """
    require_search("newton", line_search)
    return optax.chain(
        scale_by_newton(damping=damping, solve=solve),
        scale_by_learning_rate(learning_rate, caller="newton"),
        line_search,
    )
