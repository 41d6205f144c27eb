"""Traces and diagonals of operators from a few products, one method a file.

* `trace`: by any method, a value like `Krylov()`; `hutchinson_trace`: by plain probes.
* `diagonal`: every entry of the diagonal.
* `Krylov`, `Hutchinson`, `HutchPP`, `XTrace`, `XNysTrace`: methods.
* `TraceMethod`: what a method of one's own is.
"""

from jaxopt_tut.curvature.traces.deflated import HutchPP, Krylov
from jaxopt_tut.curvature.traces.diagonals import diagonal
from jaxopt_tut.curvature.traces.estimators import hutchinson_trace, trace
from jaxopt_tut.curvature.traces.leave_one_out import XNysTrace, XTrace
from jaxopt_tut.curvature.traces.methods import TraceMethod
from jaxopt_tut.curvature.traces.plain import Hutchinson

__all__ = [
    "HutchPP",
    "Hutchinson",
    "Krylov",
    "TraceMethod",
    "XNysTrace",
    "XTrace",
    "diagonal",
    "hutchinson_trace",
    "trace",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
