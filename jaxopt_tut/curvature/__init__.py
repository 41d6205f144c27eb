"""The curvature of a loss around a network, with error bars.

* `hessian`, `gauss_newton`, `empirical_fisher`: matrices of a loss, as an `Operator`.
* `linear_map`: any symmetric linear function as an `Operator`.
* `blocks`: its diagonal blocks. `symmetry_error`: whether it is symmetric.
* `top_eigenpairs`: eigenvalues and eigenvectors at an end of the spectrum.
* `trace`, `hutchinson_trace`, `diagonal`: by `Krylov`, `Hutchinson`, `HutchPP`, `XTrace`,
  `XNysTrace`, or a `TraceMethod` of your own.
* `spectral_density`: the distribution of all eigenvalues.
* `Estimate`: numbers with their standard errors.
* `sharpness`: one number, of the kinds `LargestEigenvalue`, `Ascent`, `AverageCase`, `Critical`,
  or one of your own (`SharpnessKind`, which is handed a `LossAround`).
* `stability_limit`: the sharpness above which an optimizer diverges.
* `sharpness_probe`: the largest eigenvalue during training, for `fit(..., probes=)`, which
  measures `TrackedSharpness`.
* `adam_preconditioner`: what Adam divides gradients by, of its state.
"""

from jaxopt_tut.curvature.block_diagonal import blocks
from jaxopt_tut.curvature.density import Density, spectral_density
from jaxopt_tut.curvature.eigenpairs import Eigenpairs, top_eigenpairs
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.fisher import empirical_fisher
from jaxopt_tut.curvature.flatness import (
    Ascent,
    AverageCase,
    Critical,
    LargestEigenvalue,
    LossAround,
    SharpnessKind,
    sharpness,
    stability_limit,
)
from jaxopt_tut.curvature.gauss_newton import gauss_newton
from jaxopt_tut.curvature.hessian import hessian
from jaxopt_tut.curvature.operator import Operator, linear_map
from jaxopt_tut.curvature.preconditioners import adam_preconditioner
from jaxopt_tut.curvature.symmetry import symmetry_error
from jaxopt_tut.curvature.traces import (
    Hutchinson,
    HutchPP,
    Krylov,
    TraceMethod,
    XNysTrace,
    XTrace,
    diagonal,
    hutchinson_trace,
    trace,
)
from jaxopt_tut.curvature.tracking import TrackedSharpness, sharpness_probe

__all__ = [
    "Ascent",
    "AverageCase",
    "Critical",
    "Density",
    "Eigenpairs",
    "Estimate",
    "HutchPP",
    "Hutchinson",
    "Krylov",
    "LargestEigenvalue",
    "LossAround",
    "Operator",
    "SharpnessKind",
    "TraceMethod",
    "TrackedSharpness",
    "XNysTrace",
    "XTrace",
    "adam_preconditioner",
    "blocks",
    "diagonal",
    "empirical_fisher",
    "gauss_newton",
    "hessian",
    "hutchinson_trace",
    "linear_map",
    "sharpness",
    "sharpness_probe",
    "spectral_density",
    "stability_limit",
    "symmetry_error",
    "top_eigenpairs",
    "trace",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
