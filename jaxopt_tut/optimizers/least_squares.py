"""Sums of squares, or of robust losses, from the residuals alone."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.optimizers.extra_arguments import require_optimizer
from jaxopt_tut.optimizers.levenberg_marquardt import levenberg_marquardt
from jaxopt_tut.optimizers.minimize import ResidualFn, minimize
from jaxopt_tut.optimizers.robust_losses import RobustLoss, RobustSquares, require_loss_name
from jaxopt_tut.optimizers.scipy_words import BoundsLike
from jaxopt_tut.optimizers.solution import Solution
from jaxopt_tut.optimizers.starts import as_start
from jaxopt_tut.types import Number, Optimizer, Params

_WRITTEN = {
    "f_scale": "loss_scale=",
    "max_nfev": "max_steps=",
    "x_scale": "nothing: units of the parameters don't matter to levenberg_marquardt",
    "maxfev": "max_steps=",
    "jac": "nothing: derivatives come from JAX",
    "verbose": "callback=",
    "method": "optimizer=, for instance optimizer=levenberg_marquardt()",
    "args": "least_squares(residual_fn, x0, *args)",
    "residual_fn": "the residuals in the first place",
    "has_aux": "nothing: residuals have no auxiliary values",
}
"""What is called otherwise here."""


def half_squares(
    residual_fn: ResidualFn, *, loss: RobustLoss = "linear", loss_scale: Number = 1.0
) -> RobustSquares:
    r"""Make the objective of a fit from its residuals.

    $$f(w) = \tfrac12 \sum_i C^2 \rho\!\left(|r_i(w)|^2 / C^2\right)$$

    It remembers the residuals: `bilevel.argmin(half_squares(residual_fn), y0, z, ...)` hands them
    to `levenberg_marquardt` by itself.

    Args:
      residual_fn: `residual_fn(params, *args)` returns a tree of floating or complex arrays.
      loss: What `least_squares` takes.
      loss_scale: $C > 0$; may be traced.

    Returns:
      A function of `(params, *args)` that returns a real scalar; its `residuals(params, *args)` are
      those whose squares sum to twice that, and whose Gauss-Newton steps are those of iteratively
      reweighted least squares.

    Raises:
      TypeError: If `loss_scale` is no real number, or `residual_fn` no function; when called, if
        residuals are neither floating nor complex.
      ValueError: If `loss` is unknown or a static `loss_scale` not above 0; when called, if there
        are no residuals.

    Example:
      >>> import jax.numpy as jnp
      >>> objective = half_squares(lambda w, y: w - y, loss="huber")
      >>> print(objective(0.0, jnp.array([0.5, 10.0])))  # .5^2 / 2 + (2 * 10 - 1) / 2
      9.625
    """
    return _squares("half_squares", residual_fn, loss, loss_scale)


def _squares(caller: str, residual_fn: Any, loss: Any, loss_scale: Any) -> RobustSquares:
    if not callable(residual_fn):
        raise TypeError(f"{caller} needs a function of the parameters first, got {residual_fn!r}.")
    require_loss_name(caller, loss, loss_scale)
    return RobustSquares(caller, residual_fn, loss, loss_scale)


def least_squares(
    residual_fn: ResidualFn,
    x0: Params,
    *args: Any,
    optimizer: Optimizer | None = None,
    bounds: BoundsLike | None = None,
    loss: RobustLoss = "linear",
    loss_scale: Number = 1.0,
    **options: Any,
) -> Solution:
    r"""Minimise a sum of squares, or of a robust loss of the residuals, with any optimizer.

    $$\min_w \tfrac12 \sum_i C^2 \rho\!\left(|r_i(w)|^2 / C^2\right)$$

    What `scipy.optimize.least_squares` does; the value is its `cost`. With `loss="linear"`,
    $\rho(z) = z$. The other losses grow more slowly, so that outliers (residuals beyond $C$) weigh
    less: `"huber"` and `"soft_l1"` like $|r|$, `"cauchy"` like its logarithm, `"arctan"` not at
    all. These two have minima beside the best one, also for straight lines, and which is found
    depends on the start: begin with the result of `"soft_l1"` where that matters.

    The steps of `levenberg_marquardt` and `gauss_newton` are those of iteratively reweighted least
    squares, with weights $\rho'$; other optimizers see the sum. No program is compiled anew for the
    same `residual_fn`, shapes, `loss` and options: hand over what changes as `args`.

    Args:
      residual_fn: `residual_fn(params, *args)` returns a tree of floating or complex arrays.
      x0: Where to start, as in `minimize`.
      *args: Trees of arrays that `residual_fn` needs besides.
      optimizer: Any optax transformation; `None`: `levenberg_marquardt()`.
      bounds: Those of `minimize`, for the optimizers named there.
      loss: `"linear"`, `"huber"`, `"soft_l1"`, `"cauchy"`, `"arctan"`, or $\rho$ itself, an
        elementwise function with $\rho(0) = 0$, $\rho'(0) = 1$ and $\rho'' \le 0$.
      loss_scale: $C > 0$, SciPy's `f_scale`; may be traced.
      **options: `max_steps`, `gtol`, `ftol`, `xtol`, `history`, `callback`, `callback_every`, as in
        `minimize`.

    Returns:
      The solution; its `value` is the minimum of the sum above, with the half.

    Raises:
      TypeError: If `residual_fn` is no function, `optimizer` no transformation, a residual neither
        floating nor complex, or an option unknown.
      ValueError: If `loss` is unknown, a static `loss_scale` not above 0, or there are no
        residuals; and what `minimize` raises.

    Example:
      One of five points is an outlier, which moves their mean but hardly this.

      >>> import jax.numpy as jnp
      >>> y = jnp.array([1.0, 1.1, 0.9, 1.0, 9.0])
      >>> for loss in ("linear", "cauchy"):
      ...     solution = least_squares(lambda w, y: w - y, 0.0, y, loss=loss, loss_scale=0.1)
      ...     print(f"{solution.params:.2f} {solution.value:.2f}")
      2.60 25.61
      1.00 0.05

    References:
      Holland and Welsch (1977), for the weights. https://doi.org/10.1080/03610927708827533
      Triggs et al. (2000), section 4, for the losses. https://doi.org/10.1007/3-540-44480-7_21
    """
    squares = _squares("least_squares", residual_fn, loss, loss_scale)
    return fit_squares(squares, x0, args, optimizer, bounds, options)


def fit_squares(
    squares: RobustSquares,
    x0: Params,
    args: tuple,
    optimizer: Optimizer | None,
    bounds: BoundsLike | None,
    options: dict[str, Any],
) -> Solution:
    """Minimise an objective that knows its residuals."""
    caller = squares.caller
    for name in options:
        if name in _WRITTEN:
            raise TypeError(f"{caller} has no {name}=; write {_WRITTEN[name]}.")
    x0 = as_start(caller, x0)
    optimizer = levenberg_marquardt() if optimizer is None else optimizer
    require_optimizer(caller, optimizer)
    if squares.loss != "linear" and not isinstance(squares.loss_scale, jax.Array):
        # an array is an operand of the program: another value needs no other one
        squares = replace(squares, loss_scale=jnp.asarray(squares.loss_scale, float))
    residuals = squares.residuals
    return minimize(squares, x0, optimizer, *args, residual_fn=residuals, bounds=bounds, **options)
