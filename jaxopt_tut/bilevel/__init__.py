"""Optimise the optimization: differentiate through an inner solution, or around it.

* `argmin`: the solution of an inner problem, differentiable; `hypergrad`: the derivative of an
  outer function through it, and how good it is.
* How to differentiate is a value. The steps themselves: `Unroll`, `Forward`; the last of them:
  `Truncate`, `OneStep`. The condition that a solution fulfils: `Implicit`, with a linear solve
  that is a value again: `AutoSolve`, `CG`, `NormalCG`, `GMRES`, `Neumann`, `Dense`,
  `LeastSquares`.
  `Plan` takes the fastest exact mode that fits a memory; `audit` compares modes on one problem.
* `bilevel_step`: one outer step, the inner run continued; `layers`: ridge regression, quadratic
  programs, total variation and any `argmin` as layers of a network; `recipes`: meta-learning,
  data cleaning, learned schedules and other known problems on top.
* What solves is any optax transformation, a function `hp -> transformation`, or a `Solver`:
  `Minimize`, `ClosedForm`, `Proximal`. `Stream` draws batches for the inner steps.
"""

from jaxopt_tut.bilevel import layers, recipes
from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.audit import AuditRow, audit, audit_table
from jaxopt_tut.bilevel.batches import Stream
from jaxopt_tut.bilevel.bilevel_step import BilevelState, BilevelStep, bilevel_step
from jaxopt_tut.bilevel.doubts import HypergradientWarning
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
from jaxopt_tut.bilevel.modes import Forward, Implicit, Mode, OneStep, Plan, Truncate, Unroll
from jaxopt_tut.bilevel.result import Info, Result
from jaxopt_tut.bilevel.solvers import ClosedForm, Minimize, Proximal, Solver

__all__ = [
    "CG",
    "GMRES",
    "AuditRow",
    "AutoSolve",
    "BilevelState",
    "BilevelStep",
    "ClosedForm",
    "Dense",
    "Forward",
    "HypergradientWarning",
    "Implicit",
    "Info",
    "LeastSquares",
    "LinearSolve",
    "Minimize",
    "Mode",
    "Neumann",
    "NormalCG",
    "OneStep",
    "Plan",
    "Proximal",
    "Result",
    "Solver",
    "Stream",
    "Truncate",
    "Unroll",
    "argmin",
    "audit",
    "audit_table",
    "bilevel_step",
    "hypergrad",
    "layers",
    "recipes",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
