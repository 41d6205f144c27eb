"""What solves the inner problem: any optax transformation, or one of the solvers here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.batches import batch_at
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers import differentiable, minimize, stationarity
from jaxopt_tut.optimizers.inner import (
    constraint,
    is_transformation,
    projections_of,
    take_step,
)
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import ravel


class Objective(NamedTuple):
    """The inner function of one step: `objective(y)` is `fun(y, *args)`.

    Attributes:
      fun: `f` itself, or its mean over the batches.
      args: `(z,)`, `(z, batch)` or `(z, batches)`.
    """

    fun: Callable[..., Any]
    args: tuple

    def __call__(self, y: Params) -> Any:
        """Return the value at `y`."""
        return self.fun(y, *self.args)


@runtime_checkable
class Solver(Protocol):
    """A rule that moves the inner variables towards a solution, and says what a solution is.

    Attributes:
      is_whole: Whether one `step` is the whole solve, and sees the mean of all batches.
      is_differentiable: Whether modes that differentiate steps can go through it.
    """

    is_whole: ClassVar[bool]
    is_differentiable: ClassVar[bool]

    @property
    def is_symmetric(self) -> bool:
        """Whether the derivative of `residual` in `y` is symmetric."""
        ...

    def bounded(self, steps: int, tol: float | None) -> "Solver":
        """Return the solver with the limits that `argmin` was given."""
        ...

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the state before the first step."""
        ...

    def step(
        self, objective: Objective, y: Params, state: PyTree, hp: PyTree
    ) -> tuple[Params, PyTree, Float[Array, ""]]:
        """Return the next `y` and state, and the residual's size at the `y` given."""
        ...

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return a tree like `y`, which is zero at a solution."""
        ...


class _Stepwise:
    is_whole: ClassVar[bool] = False
    is_differentiable: ClassVar[bool] = True

    def bounded(self, steps: int, tol: float | None) -> Any:
        """Return the solver itself: the loop keeps the limits."""
        del steps, tol
        return self


@dataclass(frozen=True)
class Descent(_Stepwise):
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

    optimizer_of: Callable[[Any], optax.GradientTransformation]
    is_symmetric: bool = True
    zero_safe: bool = False
    residual_fn: Callable[..., Any] | None = None

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the optimizer's first state."""
        optimizer = self.optimizer_of(hp)
        state = optimizer.init(y)
        constraint("argmin", optimizer, state)
        return state

    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree):
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
        return self._left(y, value_and_ascent(objective)(y)[1], hp)

    def _left(self, y: Params, grad: PyTree, hp: PyTree) -> PyTree:
        optimizer = self.optimizer_of(hp)
        return grad if self.is_symmetric else stationarity(optimizer, y, grad)


@dataclass(frozen=True)
class Proximal(_Stepwise):
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

    prox: Callable[[Params, PyTree, ArrayLike], Params]
    learning_rate: ArrayLike

    @property
    def is_symmetric(self) -> bool:
        """False: a projection meets the gradient on one side alone."""
        return False

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the empty state."""
        del y, hp
        return ()

    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree):
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


class _Whole:
    is_whole: ClassVar[bool] = True

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the empty state."""
        del y, hp
        return ()

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return the gradient."""
        del hp
        return value_and_ascent(objective)(y)[1]


@dataclass(frozen=True)
class ClosedForm(_Whole):
    """Solve by a formula.

    Attributes:
      fun: `fun(z)`, or `fun(z, batches)`: the minimiser of `f` (of its mean).

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import argmin
      >>> f = lambda y, z: (y - 2 * z) ** 2
      >>> print(argmin(f, 0.0, 3.0, solver=ClosedForm(lambda z: 2 * z), steps=1).y)
      6.0
    """

    fun: Callable[..., Params]
    is_differentiable: ClassVar[bool] = True
    is_symmetric: ClassVar[bool] = True

    def bounded(self, steps: int, tol: float | None) -> "ClosedForm":
        """Return the solver itself."""
        del steps, tol
        return self

    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree):
        """Evaluate the formula."""
        del hp
        like = lambda a, b: jnp.asarray(a, b.dtype)
        return jax.tree.map(like, self.fun(*objective.args), y), state, jnp.zeros(())


@dataclass(frozen=True)
class Minimize(_Whole):
    """Solve with `optimizers.minimize`: L-BFGS, Newton, trust regions, with their line searches.

    The fastest way to a converged inner solution. Its loop has no fixed length, so that only
    implicit modes differentiate it.

    Attributes:
      optimizer: For instance `optimizers.lbfgs()`.
      max_steps: Set by `argmin` from `steps`.
      gtol: Set by `argmin` from `tol`.
      residual_fn: `residual_fn(y, z)` or `residual_fn(y, z, batch)`, for `gauss_newton` and
        `levenberg_marquardt`; residuals of all batches are taken together.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import Implicit, argmin
      >>> from jaxopt_tut.optimizers import bfgs
      >>> f = lambda y, z: jnp.sum((y - z) ** 4 + (y - z) ** 2)
      >>> result = argmin(f, jnp.zeros(2), jnp.array([1.0, -2.0]), solver=Minimize(bfgs()),
      ...                 steps=50, diff=Implicit())
      >>> print(result.y.round(3), result.info.converged)
      [ 1. -2.] True
    """

    optimizer: optax.GradientTransformation
    max_steps: int = 1000
    gtol: float | None = None
    residual_fn: Callable[..., Any] | None = None
    is_differentiable: ClassVar[bool] = False

    @property
    def is_symmetric(self) -> bool:
        """Whether there is no projection."""
        return not projections_of(self.optimizer)

    def init(self, y: Params, hp: PyTree) -> PyTree:
        """Return the empty state."""
        constraint("argmin", self.optimizer, jax.eval_shape(self.optimizer.init, y))
        return super().init(y, hp)

    def bounded(self, steps: int, tol: float | None) -> "Minimize":
        """Return the solver with those limits."""
        return Minimize(self.optimizer, steps, tol, self.residual_fn)

    def step(self, objective: Objective, y: Params, state: PyTree, hp: PyTree):
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
        return grad if self.is_symmetric else stationarity(self.optimizer, y, grad)


SolverLike = TypeAliasType(
    "SolverLike",
    optax.GradientTransformation | Callable[[Any], optax.GradientTransformation] | Solver,
)
"""An optax transformation, a function of `hp` that returns one, or a `Solver`."""


def as_solver(solver: Any, hp: PyTree, caller: str) -> Solver:
    """Return a `Solver` for anything that `argmin` takes as one."""
    if is_transformation(solver):
        if hp is not None:
            raise ValueError(
                f"{caller} needs a solver that is a function hp -> transformation when hp is "
                "given, got a transformation, on which hp has no effect."
            )
        return _descent(lambda _: solver, hp)
    if isinstance(solver, Solver) and not isinstance(solver, type):
        return solver
    if not callable(solver) or isinstance(solver, type):
        raise TypeError(
            f"{caller} needs an optax transformation, a function hp -> transformation or a Solver, "
            f"got solver={solver!r}."
        )
    if hp is None:
        raise ValueError(
            f"{caller} needs hp=... for a solver that is a function hp -> transformation."
        )
    return _descent(cast(Any, solver), hp)


def _descent(optimizer_of: Callable[[Any], optax.GradientTransformation], hp: PyTree) -> Descent:
    return Descent(optimizer_of, is_symmetric=not projections_of(optimizer_of(hp)))


def with_residuals(solver: Solver, residual_fn: Callable[..., Any] | None, caller: str) -> Solver:
    """Return a solver that is handed residuals too."""
    if residual_fn is None:
        return solver
    if not isinstance(solver, Descent | Minimize):
        raise ValueError(
            f"{caller} needs an optax transformation or Minimize(...) as solver to hand "
            f"residual_fn to, got {type(solver).__name__}."
        )
    return replace(solver, residual_fn=residual_fn)


def size_of(tree: PyTree) -> Float[Array, ""]:
    """Return the largest absolute component of a tree."""
    return jnp.max(jnp.abs(ravel(tree)[0]), initial=0.0)
