"""Optimise the optimization: differentiate through an inner solution, or around it.

* `argmin`: the solution of an inner problem, differentiable; `hypergrad`: the derivative of an
  outer function through it, and how good it is.
* How to differentiate is a value: `Unroll`, the steps themselves.
* What solves is any optax transformation, a function `hp -> transformation`, or a `Solver`:
  `Minimize`, `ClosedForm`, `Proximal`. `Stream` draws batches for the inner steps.
"""

from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.batches import Stream
from jaxopt_tut.bilevel.hypergrad import hypergrad
from jaxopt_tut.bilevel.mode import Mode
from jaxopt_tut.bilevel.result import Info, Result
from jaxopt_tut.bilevel.solvers import ClosedForm, Minimize, Proximal, Solver
from jaxopt_tut.bilevel.unroll import Unroll

__all__ = [
    "ClosedForm",
    "Info",
    "Minimize",
    "Mode",
    "Proximal",
    "Result",
    "Solver",
    "Stream",
    "Unroll",
    "argmin",
    "hypergrad",
]
