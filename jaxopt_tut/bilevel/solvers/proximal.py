"""Proximal gradient steps."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.bilevel.solvers.solver import Objective, Solver, Stepped, size_of
from jaxopt_tut.blocks import shown
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.types import Number, Params, PyTree


@shown
@dataclass(frozen=True)
class Proximal(Solver):
    r"""Descend by proximal gradient steps: for a smooth function plus one with a known prox.

    $$y_{t+1} = P(y_t - \eta \nabla_y f(y_t, z),\; z,\; \eta), \qquad
    r(y) = \frac{y - P(y - \eta \nabla_y f(y, z), z, \eta)}{\eta}$$

    With the projection onto a set as $P$ it is projected descent. The residual's derivative is
    not symmetric, so that implicit modes need a general linear solve, as `AutoSolve` takes.

    Attributes:
      prox: `prox(y, z, learning_rate)`, for instance `soft_threshold(y, learning_rate * z)`.
      learning_rate: $\eta > 0$, at most $2 / \lambda_{\max}$ of the inner Hessian.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import argmin, Implicit
      >>> solver = Proximal(lambda y, z, rate: jnp.clip(y, 0.0, 1.0), 0.5)
      >>> f = lambda y, z: jnp.sum((y - z) ** 2)
      >>> result = argmin(f, jnp.zeros(2), jnp.array([0.5, 3.0]), solver=solver, steps=9,
      ...                 diff=Implicit())
      >>> print(result.y, result.info.converged)
      [0.5 1. ] True

    References:
      Parikh and Boyd (2014), Proximal algorithms, eq. (4.2). https://doi.org/10.1561/2400000003
    """

    prox: Callable[[Params, PyTree, Number], Params]
    learning_rate: Number

    @property
    def is_symmetric(self) -> bool:
        """False: a projection meets the gradient on one side alone."""
        return False

    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree) -> Stepped:
        """Take one proximal gradient step."""
        residual = self.residual(objective, y, hp)
        moved = jax.tree.map(lambda a, r: a - self._rate(a) * r, y, residual)
        return moved, state, size_of(residual)

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return the step taken back, over the learning rate."""
        del hp
        grad = value_and_ascent(objective)(y)[1]
        ahead = jax.tree.map(lambda a, g: a - self._rate(a) * g, y, grad)
        target = self.prox(ahead, objective.args[0], self.learning_rate)
        # comparisons inside of a prox take what is not a number for something else, often for 0
        target = jax.tree.map(lambda p, a: jnp.where(jnp.isfinite(a), p, jnp.nan), target, ahead)
        return jax.tree.map(lambda a, p: (a - p) / self._rate(a), y, target)

    def _rate(self, leaf: Array) -> Array:
        return jnp.asarray(self.learning_rate, leaf.dtype)
