"""Optimise the optimization: differentiate through an inner solution, or around it.

* `argmin`: the solution of an inner problem, differentiable; `hypergrad`: the derivative of an
  outer function through it, and how good it is.
* How to differentiate is a value. The steps themselves: `Unroll`, `Forward`; the last of them:
  `Truncate`, `OneStep`. The condition that a solution fulfils: `Implicit`, with a linear solve
  that is a value again: `AutoSolve`, `CG`, `NormalCG`, `GMRES`, `Neumann`, `Dense`,
  `LeastSquares`.
* What solves is any optax transformation, a function `hp -> transformation`, or a `Solver`:
  `Minimize`, `ClosedForm`, `Proximal`. `Stream` draws batches for the inner steps.
"""

from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.batches import Stream
from jaxopt_tut.bilevel.forward import Forward
from jaxopt_tut.bilevel.hypergrad import hypergrad
from jaxopt_tut.bilevel.implicit import Implicit
from jaxopt_tut.bilevel.mode import Mode
from jaxopt_tut.bilevel.one_step import OneStep
from jaxopt_tut.bilevel.result import Info, Result
from jaxopt_tut.bilevel.solvers import ClosedForm, Minimize, Proximal, Solver
from jaxopt_tut.bilevel.solves import (
    CG,
    GMRES,
    AutoSolve,
    Dense,
    LeastSquares,
    LinearSolve,
    Neumann,
    NormalCG,
)
from jaxopt_tut.bilevel.truncate import Truncate
from jaxopt_tut.bilevel.unroll import Unroll

__all__ = [
    "CG",
    "GMRES",
    "AutoSolve",
    "ClosedForm",
    "Dense",
    "Forward",
    "Implicit",
    "Info",
    "LeastSquares",
    "LinearSolve",
    "Minimize",
    "Mode",
    "Neumann",
    "NormalCG",
    "OneStep",
    "Proximal",
    "Result",
    "Solver",
    "Stream",
    "Truncate",
    "Unroll",
    "argmin",
    "hypergrad",
]
