"""How far the data determine the parameters of a fit: covariances and standard errors."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.blocks import Block, brief, number
from jaxopt_tut.optimizers.fit_verdict import column_norms
from jaxopt_tut.optimizers.gauss_newton import linearize_residual
from jaxopt_tut.optimizers.minimize import ResidualFn
from jaxopt_tut.optimizers.robust_losses import RobustLoss, RobustSquares, require_loss_name
from jaxopt_tut.optimizers.solution import Counts, Flags, Numbers, Solution
from jaxopt_tut.optimizers.starts import as_start
from jaxopt_tut.types import Number, Params
from jaxopt_tut.vectors import matmul, ravel, safe_root


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Covariance(Block):
    """How far the data determine the parameters.

    Attributes:
      matrix: Of the parameters laid end to end, complex ones as real parts and imaginary parts;
        infinite if they are not determined.
      standard_errors: Roots of its diagonal, in a tree like the parameters; of a complex parameter
        that of the real part, and that of the imaginary part as imaginary part.
      residual_variance: Sum of squared residuals over the degrees of freedom; infinite if there
        are none.
      degrees_of_freedom: Residuals less parameters.
      rank: Of the Jacobian, columns scaled to length 1.
      is_determined: Whether the rank is full and, unless `absolute_sigma`, degrees of freedom are
        left.
    """

    matrix: Float[Array, "*batch dim dim"]
    standard_errors: Params
    residual_variance: Numbers
    degrees_of_freedom: Counts
    rank: Counts
    is_determined: Flags

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return what is worth reading."""
        names = ("residual_variance", "degrees_of_freedom", "rank", "is_determined")
        rows = [(name, number(getattr(self, name))) for name in names]
        return "Covariance", [("standard_errors", brief(self.standard_errors)), *rows]


def covariance(
    solution: Solution | Params,
    residual_fn: ResidualFn,
    *args: Any,
    absolute_sigma: bool = False,
    loss: RobustLoss = "linear",
    loss_scale: Number = 1.0,
) -> Covariance:
    r"""Return the covariance of the parameters of a least-squares fit.

    $$\Sigma = s^2 (J^T J)^{-1}, \qquad s^2 = \frac{\lVert r \rVert^2}{m - n}$$

    for $m$ residuals of one unknown variance $s^2$ and $n$ parameters; as $J$ is taken at the fit,
    it is right where the model is almost linear over a standard error. By a singular value
    decomposition of $J$, so that its condition number is not squared.

    Args:
      solution: What `least_squares` or `minimize` returned, or the parameters.
      residual_fn: `residual_fn(params, *args)`, as it was fitted.
      *args: Its other arguments.
      absolute_sigma: Whether residuals have been divided by true standard deviations, so that
        $s^2 = 1$.
      loss: That of the fit. Of a robust one $J$ is weighted as in `scipy.optimize.curve_fit`, by
        $(\rho' + 2 z \rho'')^{1/2}$, and $s^2$ is that of the losses.
      loss_scale: That of the fit.

    Returns:
      The covariance. If a combination of parameters does not change the residuals, or none are left
      to measure $s^2$, it is infinite, and a flag says so.

    Raises:
      TypeError: If a residual or parameter is neither floating nor complex.
      ValueError: If there is no residual or no parameter, `loss` is unknown or a static
        `loss_scale` not above 0.

    Example:
      The standard error of a mean is that of one value over the root of their number.

      >>> import jax.numpy as jnp
      >>> y = jnp.array([1.0, 2.0, 3.0, 4.0])
      >>> found = covariance(jnp.mean(y), lambda w: w - y)
      >>> print(f"{found.standard_errors:.4f} {jnp.std(y, ddof=1) / 2:.4f}")
      0.6455 0.6455

    References:
      Seber and Wild (1989), chapter 5. https://doi.org/10.1002/0471725315
    """
    require_loss_name("covariance", loss, loss_scale)
    squares = RobustSquares("covariance", residual_fn, loss, loss_scale)
    params = solution.params if isinstance(solution, Solution) else as_start("covariance", solution)
    return covariance_of(squares, params, args, absolute_sigma)


def covariance_of(
    squares: RobustSquares, params: Params, args: tuple, absolute_sigma: bool
) -> Covariance:
    """Return the covariance of a fit whose loss may be robust."""
    _, jacobian = linearize_residual(lambda w: squares.weighted(w, *args), params)
    rows, columns = jacobian.shape
    dtype, freedom = jacobian.dtype, rows - columns
    twice = 2 * squares(params, *args).astype(dtype)
    lengths = column_norms(jacobian)
    lengths = jnp.where(lengths > 0, lengths, 1)
    is_finite = jnp.all(jnp.isfinite(jacobian))
    scaled = jnp.where(is_finite, jacobian / lengths, 0)
    _, values, vectors = jnp.linalg.svd(scaled, full_matrices=False)
    threshold = jnp.finfo(dtype).eps * max(rows, columns) * jnp.max(values)
    is_kept = values > threshold
    rank = jnp.sum(is_kept)
    half = vectors.T / jnp.where(is_kept, values, 1) / lengths[:, None]
    variance = twice / freedom if freedom > 0 else jnp.full([], jnp.inf, dtype)
    factor = jnp.ones([], dtype) if absolute_sigma else variance
    is_determined = is_finite & (rank == columns) & (absolute_sigma or freedom > 0)
    matrix = jnp.where(is_determined, factor * matmul(half, half.T), jnp.inf)
    return Covariance(
        matrix=matrix,
        standard_errors=ravel(params)[1](safe_root(jnp.diagonal(matrix))),
        residual_variance=variance,
        degrees_of_freedom=jnp.asarray(freedom, jnp.int32),
        rank=rank.astype(jnp.int32),
        is_determined=is_determined,
    )
