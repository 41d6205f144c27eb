"""What may be passed as a solver, read as one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.solvers.descent import Descent
from jaxopt_tut.bilevel.solvers.minimize import Minimize
from jaxopt_tut.bilevel.solvers.solver import Solver
from jaxopt_tut.optimizers.inner import is_transformation, projections_of
from jaxopt_tut.types import Optimizer, PyTree

SolverLike = TypeAliasType(
    "SolverLike",
    Optimizer | Callable[[Any], Optimizer] | Solver,
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
    if missing := _missing_of_solver(solver):
        raise TypeError(
            f"{caller} needs a solver with all that bilevel.Solver has, got {type(solver).__name__}"
            f" without {', '.join(missing)}: inherit from bilevel.Solver."
        )
    if not callable(solver) or isinstance(solver, type):
        raise TypeError(
            f"{caller} needs an optax transformation, a function hp -> transformation or a Solver, "
            f"got solver={solver!r}."
        )
    if hp is None:
        raise ValueError(
            f"{caller} needs hp=... for a solver that is a function hp -> transformation; one of "
            "your own that steps inherits from bilevel.Solver."
        )
    return _descent(cast(Any, solver), hp)


def _missing_of_solver(solver: Any) -> list[str]:
    """Return what a would-be `Solver` lacks, or nothing for what is none at all."""
    if isinstance(solver, type) or not (hasattr(solver, "step") or hasattr(solver, "residual")):
        return []
    names = ("is_whole", "is_differentiable", "is_symmetric", "bounded", "init", "step", "residual")
    return [name for name in names if not hasattr(solver, name)]


def _descent(optimizer_of: Callable[[Any], Optimizer], hp: PyTree) -> Descent:
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
