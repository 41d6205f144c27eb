"""Optimise the optimization: differentiate through an inner solution, or around it.

* `argmin`: the solution of an inner problem, differentiable; `hypergrad`: the derivative of an
  outer function through it, and how good it is.
* How to differentiate is a value. The steps themselves: `Unroll`, `Forward`; the last of them:
  `Truncate`, `OneStep`. The condition that a solution fulfils: `Implicit`, with a linear solve
  that is a value again: `AutoSolve`, `CG`, `NormalCG`, `GMRES`, `Neumann`, `Dense`,
  `LeastSquares`.
  `Plan` takes the fastest exact mode that fits a memory; `audit` compares modes on one problem.
* `bilevel_step`: one outer step, the inner run continued; `layers`: ridge regression, quadratic
  programs, total variation, fixed points and any `argmin` as layers of a network; `recipes`:
  meta-learning, data cleaning, learned schedules and other known problems on top.
* `root`: the solution of an equation, by `Newton`, `Broyden`, `NewtonKrylov` or `Bisection`;
  `fixed_point`: what a map leaves where it is, by `Picard` or `Anderson`. Differentiable as
  `argmin` is.
* What solves is any optax transformation, a function `hp -> transformation`, or a `Solver`:
  `Minimize`, `ClosedForm`, `Proximal`. `Stream` draws batches for the inner steps.
* A mode of one's own inherits from `Mode`, and takes the steps of a `Problem` on its `Inputs` to a
  `Run`; a solver of one's own inherits from `Solver`.
"""

from jaxopt_tut.bilevel import layers, recipes
from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.audit import AuditRow, audit, audit_table
from jaxopt_tut.bilevel.batches import Stream
from jaxopt_tut.bilevel.bilevel_step import BilevelState, BilevelStep, bilevel_step
from jaxopt_tut.bilevel.doubts import HypergradientWarning
from jaxopt_tut.bilevel.equations.bisection import Bisection
from jaxopt_tut.bilevel.equations.broyden import Broyden
from jaxopt_tut.bilevel.equations.equation import EquationSolver, FixedPointSolver
from jaxopt_tut.bilevel.equations.fixed_points import Anderson, Picard
from jaxopt_tut.bilevel.equations.newton import Newton
from jaxopt_tut.bilevel.equations.newton_krylov import NewtonKrylov
from jaxopt_tut.bilevel.equations.root import fixed_point, root
from jaxopt_tut.bilevel.hypergrad import hypergrad
from jaxopt_tut.bilevel.linear_solves import (
    CG,
    GMRES,
    AutoSolve,
    Dense,
    LeastSquares,
    LinearSolve,
    Neumann,
    NormalCG,
)
from jaxopt_tut.bilevel.modes import (
    Forward,
    Hypergradient,
    Implicit,
    LinearInfo,
    Mode,
    OneStep,
    Plan,
    Truncate,
    Unroll,
)
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.bilevel.result import Info, Result
from jaxopt_tut.bilevel.solvers import ClosedForm, Minimize, Objective, Proximal, Solver

__all__ = [
    "CG",
    "GMRES",
    "Anderson",
    "AuditRow",
    "AutoSolve",
    "BilevelState",
    "BilevelStep",
    "Bisection",
    "Broyden",
    "ClosedForm",
    "Dense",
    "EquationSolver",
    "FixedPointSolver",
    "Forward",
    "Hypergradient",
    "HypergradientWarning",
    "Implicit",
    "Info",
    "Inputs",
    "LeastSquares",
    "LinearInfo",
    "LinearSolve",
    "Minimize",
    "Mode",
    "Neumann",
    "Newton",
    "NewtonKrylov",
    "NormalCG",
    "Objective",
    "OneStep",
    "Picard",
    "Plan",
    "Problem",
    "Proximal",
    "Result",
    "Run",
    "Solver",
    "Stream",
    "Truncate",
    "Unroll",
    "argmin",
    "audit",
    "audit_table",
    "bilevel_step",
    "fixed_point",
    "hypergrad",
    "layers",
    "recipes",
    "root",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
