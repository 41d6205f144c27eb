"""Descent with any optax transformation, whose steps can be differentiated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxopt_tut.bilevel.solvers.solver import Objective, Solver, Stepped, size_of
from jaxopt_tut.optimizers import differentiable, stationarity
from jaxopt_tut.optimizers.inner import constraint, take_step
from jaxopt_tut.types import Optimizer, Params, PyTree


@dataclass(frozen=True)
class Descent(Solver):
    r"""Descend with an optax transformation; `argmin` makes it of what is passed as `solver`.

    $$y_{t+1} = y_t + u(\nabla_y f(y_t, z), s_t), \qquad r(y) = \nabla_y f(y, z)$$

    Line searches get `value`, `grad` and `value_fn`. Where the transformation ends in `project`,
    its residual is that of `optimizers.stationarity`, $r(y) = y - P(y - \nabla_y f(y, z))$.

    Attributes:
      optimizer_of: `hp -> transformation`.
      is_symmetric: Whether there is no projection.
      zero_safe: Whether zero times infinity is zero in derivatives of the transformation.
      residual_fn: `residual_fn(y, z)` or `residual_fn(y, z, batch)`, for least squares.
    """

    optimizer_of: Callable[[Any], Optimizer]
    is_symmetric: bool = True
    zero_safe: bool = False
    residual_fn: Callable[..., Any] | None = None

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the optimizer's first state."""
        optimizer = self.optimizer_of(hp)
        state = optimizer.init(y)
        constraint("argmin", optimizer, state)
        return state

    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree) -> Stepped:
        """Take one optimizer step."""
        optimizer = self.optimizer_of(hp)
        if self.zero_safe:
            optimizer = differentiable(optimizer)
        functions: dict[str, Any] = {}
        if (residual_fn := self.residual_fn) is not None:
            functions["residual_fn"] = lambda y: residual_fn(y, *objective.args)
        after = take_step("argmin", optimizer, objective, y, state, **functions)
        left = self._left(y, after.grad, hp)
        return after.params, after.state, size_of(left)

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return the gradient, or the projected one."""
        return self._left(y, super().residual(objective, y, hp), hp)

    def _left(self, y: Params, grad: PyTree, hp: PyTree) -> PyTree:
        optimizer = self.optimizer_of(hp)
        return grad if self.is_symmetric else stationarity(optimizer, y, grad)
