"""The small unconstrained problems of `sif2jax`, without the minutes that importing it takes."""

import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

BEST_VALUES = Path(__file__).parents[2] / "benchmarks" / "sif_best.json"
TOLERANCE = 1e-6
MAX_STEPS, MAX_EVALUATIONS = 2000, 10_000


class Problem(NamedTuple):
    """A function of a vector, where to start, and the best value that any solver reached."""

    fun: Callable[[Any], Any]
    start: np.ndarray
    best_value: float
    first_slope: float  # largest component of the gradient at the start

    def is_solved(self, value: float, grad_norm: float, evaluations: int) -> bool:
        """Tell whether an end counts: a small gradient, as low as any, not too late."""
        excess = value - self.best_value
        return (
            grad_norm <= TOLERANCE * max(1.0, self.first_slope)
            and excess <= TOLERANCE * max(1.0, abs(self.best_value))
            and evaluations <= MAX_EVALUATIONS
        )


def best_values() -> dict[str, float]:
    """Read the committed table: the best value that any solver reached, by problem.

    It lists the problems of up to 10 unknowns. EG1 is not among them: its bounds are missing in
    sif2jax, and without them it has no minimum.
    """
    return json.loads(BEST_VALUES.read_text())


def load(names: Iterable[str]) -> dict[str, Problem]:
    """Return problems in double precision; call it with x64 enabled."""
    module, table = _unconstrained(), best_values()
    return {name: _problem(getattr(module, name)(), table[name]) for name in names}


def _problem(problem: Any, best_value: float) -> Problem:
    start, unravel = ravel_pytree(problem.y0)
    fun = lambda y: problem.objective(unravel(y), problem.args)
    slope = float(np.abs(jax.jit(jax.grad(fun))(start)).max())
    return Problem(fun, np.asarray(start, np.float64), best_value, slope)


def _unconstrained() -> types.ModuleType:
    """Import the subpackage with stand-ins for its parents, which would build all of CUTEst."""
    spec = importlib.util.find_spec("sif2jax")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("The SIF problems need sif2jax: pip install sif2jax==0.0.8.")
    root = Path(next(iter(spec.submodule_search_locations)))
    stand_ins = {}
    for name, path in (("sif2jax", root), ("sif2jax.cutest", root / "cutest")):
        if name not in sys.modules:
            stand_ins[name] = sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(path)]
    try:
        return importlib.import_module("sif2jax.cutest._unconstrained_minimisation")
    finally:
        # whoever imports sif2jax itself later gets the real one
        for name in stand_ins:
            del sys.modules[name]
