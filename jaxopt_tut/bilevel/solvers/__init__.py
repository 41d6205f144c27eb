"""What solves the inner problem: one solver a file, all on the base that is in `solver`."""

from jaxopt_tut.bilevel.solvers.as_solver import SolverLike, as_solver, with_residuals
from jaxopt_tut.bilevel.solvers.closed_form import ClosedForm
from jaxopt_tut.bilevel.solvers.descent import Descent
from jaxopt_tut.bilevel.solvers.minimize import Minimize
from jaxopt_tut.bilevel.solvers.proximal import Proximal
from jaxopt_tut.bilevel.solvers.solver import Objective, Solver, size_of

__all__ = [
    "ClosedForm",
    "Descent",
    "Minimize",
    "Objective",
    "Proximal",
    "Solver",
    "SolverLike",
    "as_solver",
    "size_of",
    "with_residuals",
]
