"""See, explain and differentiate the training of any JAX model.

The rooms of the library, each imported on first use so that `import jaxopt_tut` stays cheap:

* `initializers`: where the weights start, from constants to the edge of chaos.
* `optimizers`: how they move, as optax transformations.
* `autodiff`: the computation graph of any function, and backpropagation on it.
* `linalg`: the matrix-free solves that methods and implicit derivatives need.
* `bilevel`: the solution of an optimization, as a differentiable function.
* `curvature`: Hessians and their kin as operators; eigenvalues, spectra, traces, sharpness.
* `landscape`: the loss around a network and along paths; surfaces whose minima are known.
* `taps`: values and cotangents inside any function.
* `diagnostics`: what is wrong in which layer, why, and what to do about it.
* `calibration`: initialization that reads the network and its data.
* `models`: the small networks of the experiments.
* `datasets`: Fashion-MNIST, bundled and in full.
* `training`: compiled training runs.
* `plotting`: pictures of all of it (needs the extra `plot`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_tut import (
        autodiff,
        bilevel,
        calibration,
        curvature,
        datasets,
        diagnostics,
        initializers,
        landscape,
        linalg,
        models,
        optimizers,
        plotting,
        taps,
        training,
    )

__all__ = [
    "autodiff",
    "bilevel",
    "calibration",
    "curvature",
    "datasets",
    "diagnostics",
    "initializers",
    "landscape",
    "linalg",
    "models",
    "optimizers",
    "plotting",
    "taps",
    "training",
]


def __getattr__(name: str) -> Any:
    """Import the room `name` the first time it is asked for."""
    if name in __all__:
        return importlib.import_module(f"jaxopt_tut.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("jaxopt_tut")
    raise AttributeError(f"module 'jaxopt_tut' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the rooms, also those not imported yet."""
    return sorted([*__all__, "__version__"])
