"""The Levenberg-Marquardt method for sums of squares."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxopt_tut.hyperparameters import cast, require_nonnegative
from jaxopt_tut.optimizers.gauss_newton import linearize_residual
from jaxopt_tut.optimizers.objective import bind, require_objective
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number
from jaxopt_tut.vectors import Vector, dot, matmul, ravel, safe_root


class LevenbergMarquardtState(NamedTuple):
    """What the next step of `levenberg_marquardt` needs."""

    damping: Float[Array, ""]
    growth: Float[Array, ""]  # by which the damping grows after the next rejection
    scale: Float[Array, "dim"]  # largest norms of the columns of the Jacobian so far
    accepted: Bool[Array, ""]  # whether the last step was taken
    failed: Bool[Array, ""]  # whether the damping has grown beyond all bounds
    metric = "dense"  # see `stationarity`


def levenberg_marquardt(*, initial_damping: Number = 1e-3) -> optax.GradientTransformationExtraArgs:
    r"""Build the Levenberg-Marquardt method for nonlinear least squares.

    $$(J^T J + \lambda D^2)\, u = -J^T r, \qquad
    \rho = \frac{\lVert r(w) \rVert^2 - \lVert r(w + u) \rVert^2}
    {\lVert r \rVert^2 - \lVert r + J u \rVert^2}$$

    The step is taken if $\rho > 10^{-4}$, else the update is 0. Then $\lambda$ is multiplied by
    $\max(1/3, 1 - (2\rho - 1)^3)$, or, after rejections in a row, by 2, 4, 8, ... $D$ holds the
    largest norms of the columns of $J$ so far, so that units of the parameters don't matter. The
    first choice for fitting curves. A step costs $J$ ($\min(m, n)$ derivatives), a QR
    factorization and one evaluation of the residuals.

    Args:
      initial_damping: $\lambda_0 > 0$, relative to $J^T J$; may be traced.

    Returns:
      A transformation whose updates are *added* to the parameters; `update` needs `params` and
      `residual_fn=`. It looks at the residuals alone, not at the gradients that come in.

    Raises:
      TypeError: If `initial_damping` is no number, or a parameter neither floating nor complex.
      ValueError: If a static `initial_damping` is not positive and finite; from `update`, if
        `params` or `residual_fn` is missing or the gradients don't match the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import minimize
      >>> t = jnp.array([0.0, 1.0, 2.0, 3.0])
      >>> residual = lambda w: w[0] * jnp.exp(-w[1] * t) - 2 * jnp.exp(-0.5 * t)
      >>> loss = lambda w: 0.5 * jnp.sum(residual(w) ** 2)
      >>> solution = minimize(loss, jnp.ones(2), levenberg_marquardt(), residual_fn=residual)
      >>> print(solution.params.round(2))
      [2.  0.5]

    References:
      Moré (1978), section 6, for $D$. https://doi.org/10.1007/BFb0067700
      Madsen, Nielsen and Tingleff (2004), Methods for non-linear least squares problems,
      algorithm 3.16, for $\lambda$.
    """
    require_nonnegative("levenberg_marquardt", initial_damping=initial_damping)
    if not isinstance(initial_damping, jax.Array) and initial_damping == 0:
        raise ValueError("levenberg_marquardt needs initial_damping > 0, got initial_damping=0.")

    def init(params):
        require_inexact(params, "levenberg_marquardt")
        vector = jnp.zeros_like(ravel(params)[0])
        return LevenbergMarquardtState(
            damping=cast(initial_damping, vector.dtype),
            growth=jnp.full([], 2, vector.dtype),
            scale=vector,
            accepted=jnp.zeros([], bool),
            failed=jnp.zeros([], bool),
        )

    def update(updates, state, params: Any = None, *, residual_fn: Any = None, **extra_args):
        require_objective("levenberg_marquardt", updates, params, residual_fn=residual_fn)
        residuals = bind(residual_fn, extra_args)
        r, jacobian = linearize_residual(residuals, params)
        _, unravel = ravel(params)
        squared = jnp.sum(jacobian**2, axis=0)
        norms = safe_root(squared)
        scale = jnp.maximum(state.scale, norms)
        d = jnp.where(scale > 0, scale, 1)
        step = _damped_step(jacobian, r, jnp.sqrt(state.damping) * d)
        new_r = ravel(residuals(optax.apply_updates(params, unravel(step))))[0].astype(r.dtype)
        model = r + matmul(jacobian, step)
        old, new, expected = dot(r, r), dot(new_r, new_r), dot(model, model)
        # both decreases are rounding errors at the solution: their ratio must tend to 1
        noise = 10 * jnp.finfo(r.dtype).eps * old + jnp.finfo(r.dtype).tiny
        ratio = (old - new + noise) / (old - expected + noise)
        accepted = (ratio > 1e-4) & jnp.isfinite(new)
        shrink = jnp.maximum(1 / 3, 1 - (2 * jnp.where(accepted, ratio, 1) - 1) ** 3)
        damping = state.damping * jnp.where(accepted, shrink, state.growth)
        state = LevenbergMarquardtState(
            damping=damping,
            growth=jnp.where(accepted, 2, jnp.minimum(2 * state.growth, 1e6)),
            scale=scale,
            accepted=accepted,
            failed=~accepted & ~(jnp.isfinite(old) & (damping < 1 / jnp.finfo(r.dtype).eps ** 2)),
        )
        return unravel(jnp.where(accepted, step, 0)), state

    return optax.GradientTransformationExtraArgs(init, update)


def _damped_step(
    jacobian: Float[Array, "residuals dim"], r: Float[Array, "residuals"], damping: Vector
) -> Vector:
    """Minimise |J u + r|^2 + |damping u|^2 by QR, which does not square the condition number."""
    stacked = jnp.concatenate([jacobian, jnp.diag(damping)])
    q, upper = jnp.linalg.qr(stacked)
    target = jnp.concatenate([r, jnp.zeros_like(damping)])
    return -jax.scipy.linalg.solve_triangular(upper, matmul(target, q))
