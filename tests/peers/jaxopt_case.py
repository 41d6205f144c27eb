"""One comparison with jaxopt: the same problem here and there."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

with warnings.catch_warnings():
    # its only message at import; a warning of any other kind stays an error
    warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
    import jaxopt

__all__ = ["ROUNDING", "SEARCHED", "SOLVED", "STOP", "Case", "jaxopt"]

ROUNDING = 1e-12
"""Of formulas: some hundred roundings of float64, on numbers near 1."""

STOP = 1e-10
"""The residual at which jaxopt's solvers are told to stop, where they can be told."""

SOLVED = 1e-8
"""What that leaves in the solution and its derivative: the systems have conditions below 100."""

SEARCHED = 1e-6
"""Where a search by values ends, whose rounding is the square of that of a solution."""


class Case(NamedTuple):
    """A problem, solved here and by jaxopt.

    Attributes:
      there: The name of what is called there; a suffix in brackets tells cases apart.
      ours: A function of the arguments.
      theirs: Another one.
      args: What is differentiated: float64 arrays, or trees of them.
      tol: Largest difference allowed, in units of the largest number of the answer or 1.
      forward: Whether jaxopt has a forward mode there.
      derivative: Whether jaxopt has a derivative there.
      jit: Whether jaxopt can be compiled there.
      slow: Whether one of the two compiles for seconds.
    """

    there: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    args: tuple
    tol: float = ROUNDING
    forward: bool = False
    derivative: bool = True
    jit: bool = True
    slow: bool = False

    @property
    def name(self) -> str:
        """Where to find it in jaxopt."""
        return self.there.split(" ")[0]
