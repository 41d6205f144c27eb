"""The searches of `optimizers.minimize`: to convergence, in a loop of unknown length."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from jaxopt_tut.bilevel.batches import batch_at
from jaxopt_tut.bilevel.solvers.solver import Objective, Solver, Stepped
from jaxopt_tut.optimizers import minimize, projections, stationarity
from jaxopt_tut.optimizers.inner import constraint, projected_gradient, projections_of
from jaxopt_tut.types import Number, Optimizer, Params, PyTree


@dataclass(frozen=True)
class Minimize(Solver):
    """Solve with `optimizers.minimize`: L-BFGS, Newton, trust regions, with their line searches.

    The fastest way to a converged inner solution. Its loop has no fixed length, so that only
    implicit modes differentiate it.

    Attributes:
      optimizer: For instance `optimizers.lbfgs()`.
      max_steps: Set by `argmin` from `steps`.
      gtol: Set by `argmin` from `tol`.
      residual_fn: `residual_fn(y, z)` or `residual_fn(y, z, batch)`, for `gauss_newton` and
        `levenberg_marquardt`; residuals of all batches are taken together.
      bounds: `(lower, upper)` as `minimize` takes them, or a function of `z` that returns them,
        which makes the solution differentiable in its bounds.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import Implicit, argmin
      >>> from jaxopt_tut.optimizers import bfgs
      >>> f = lambda y, z: jnp.sum((y - z) ** 4 + (y - z) ** 2)
      >>> result = argmin(f, jnp.zeros(2), jnp.array([1.0, -2.0]), solver=Minimize(bfgs()),
      ...                 steps=50, diff=Implicit())
      >>> print(result.y.round(3), result.info.converged)
      [ 1. -2.] True

      Under a bound that the derivative is taken in: it holds the first coordinate alone.

      >>> import jax
      >>> from jaxopt_tut.optimizers import lbfgsb
      >>> bounded = Minimize(lbfgsb(), bounds=lambda z: (None, z))
      >>> f = lambda y, z: jnp.sum((y - jnp.array([3.0, 0.5])) ** 2)
      >>> solve = lambda z: argmin(f, jnp.zeros(2), z, solver=bounded, steps=9, diff=Implicit()).y
      >>> print(solve(2.0), jax.jacrev(solve)(2.0))
      [2.  0.5] [1. 0.]
    """

    optimizer: Optimizer
    max_steps: int = 1000
    gtol: Number | None = None
    residual_fn: Callable[..., Any] | None = None
    bounds: Any = None
    is_whole: ClassVar[bool] = True
    is_differentiable: ClassVar[bool] = False

    @property
    def is_symmetric(self) -> bool:
        """Whether there are neither bounds nor a projection."""
        return self.bounds is None and not projections_of(self.optimizer)

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the empty state."""
        constraint("argmin", self.optimizer, jax.eval_shape(self.optimizer.init, y))
        return super().init(y, hp)

    def bounded(self, steps: int, tol: Any) -> "Minimize":
        """Return the solver with those limits."""
        return replace(self, max_steps=steps, gtol=tol)

    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree) -> Stepped:
        """Run the whole search."""
        del hp
        solution = minimize(
            objective.fun,
            y,
            self.optimizer,
            *objective.args,
            max_steps=self.max_steps,
            gtol=self.gtol,
            residual_fn=None if self.residual_fn is None else self._residuals,
            bounds=self._bounds_at(objective.args[0]),
        )
        return solution.params, state, solution.grad_norm

    def _residuals(self, y: Params, z: PyTree, *batches: PyTree) -> PyTree:
        residual_fn = cast(Callable[..., Any], self.residual_fn)
        if not batches:
            return residual_fn(y, z)
        one = lambda step: residual_fn(y, z, batch_at(batches[0], step))
        return jax.vmap(one)(jnp.arange(self.max_steps))

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return the gradient, or the projected one."""
        grad = super().residual(objective, y, hp)
        if self.bounds is None:
            return grad if self.is_symmetric else stationarity(self.optimizer, y, grad)
        return projected_gradient(projections.box(*self._bounds_at(objective.args[0])), y, grad)

    def _bounds_at(self, z: PyTree) -> Any:
        return self.bounds(z) if callable(self.bounds) else self.bounds
