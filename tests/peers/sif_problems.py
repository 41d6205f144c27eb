"""The small problems of `sif2jax`, without the minutes that importing it takes."""

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

TABLES = Path(__file__).parents[2] / "benchmarks"
MAX_UNKNOWNS = 10
TOLERANCE = 1e-6
MAX_STEPS, MAX_EVALUATIONS = 2000, 10_000


class Problem(NamedTuple):
    """A function of a vector, where to start, and the best value that any solver reached."""

    fun: Callable[[Any], Any]
    start: np.ndarray
    best_value: float
    first_slope: float  # largest component of the (projected) gradient at the start
    bounds: tuple[np.ndarray, np.ndarray] | None = None

    def slope(self, y: Any, grad: Any) -> float:
        """Return the largest component of the gradient, or under bounds of the projected one."""
        y, grad = np.asarray(y), np.asarray(grad)
        left = grad if self.bounds is None else y - np.clip(y - grad, *self.bounds)
        return float(np.abs(left).max())

    def is_solved(self, value: float, grad_norm: float, evaluations: int) -> bool:
        """Tell whether an end counts: a small gradient, as low as any, not too late."""
        excess = value - self.best_value
        return (
            grad_norm <= TOLERANCE * max(1.0, self.first_slope)
            and excess <= TOLERANCE * max(1.0, abs(self.best_value))
            and evaluations <= MAX_EVALUATIONS
        )


def best_values(kind: str = "unconstrained") -> dict[str, float]:
    """Read the committed table: the best value that any solver reached, by problem.

    It lists the problems of up to 10 unknowns, `unconstrained` or `bounded`. EG1 is not among the
    first: its bounds are missing in sif2jax, and without them it has no minimum.
    """
    name = {"unconstrained": "sif_best.json", "bounded": "sif_bounded_best.json"}[kind]
    return json.loads((TABLES / name).read_text())


def load(names: Iterable[str]) -> dict[str, Problem]:
    """Return problems without bounds in double precision; call it with x64 enabled."""
    module, table = _subpackage("_unconstrained_minimisation"), best_values()
    return {name: _problem(getattr(module, name)(), table[name]) for name in names}


def load_bounded(names: Iterable[str]) -> dict[str, Problem]:
    """Return problems with bounds in double precision; call it with x64 enabled."""
    module, table = _subpackage("_bounded_minimisation"), best_values("bounded")
    return {name: _problem(getattr(module, name)(), table[name]) for name in names}


class Equations(NamedTuple):
    """As many equations as unknowns, and where to start."""

    fun: Callable[[Any], Any]
    start: np.ndarray


def load_equations() -> dict[str, Equations]:
    """Return the square systems of up to 10 unknowns; call it with x64 enabled."""
    found = {}
    for name, make in vars(_subpackage("_nonlinear_equations")).items():
        if not isinstance(make, type):
            continue
        problem = make()
        start, unravel = ravel_pytree(problem.y0)

        def fun(y: Any, problem: Any = problem, unravel: Any = unravel) -> Any:
            return ravel_pytree(problem.constraint(unravel(y)))[0]

        if start.size > MAX_UNKNOWNS:
            continue
        if jax.eval_shape(fun, start).shape == start.shape:
            found[name] = Equations(fun, np.asarray(start, np.float64))
    return found


def _problem(problem: Any, best_value: float) -> Problem:
    start, unravel = ravel_pytree(problem.y0)
    fun = lambda y: problem.objective(unravel(y), problem.args)
    found = Problem(fun, np.asarray(start, np.float64), best_value, 0.0)
    if (bounds := getattr(problem, "bounds", None)) is not None:
        lower, upper = (np.asarray(ravel_pytree(bound)[0], np.float64) for bound in bounds)
        found = found._replace(bounds=(lower, upper), start=np.clip(found.start, lower, upper))
    slope = found.slope(found.start, jax.jit(jax.grad(fun))(found.start))
    return found._replace(first_slope=slope)


def _subpackage(name: str) -> types.ModuleType:
    """Import a kind of problem with stand-ins for its parents, which would build all of CUTEst."""
    spec = importlib.util.find_spec("sif2jax")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("The SIF problems need sif2jax: pip install sif2jax==0.0.8.")
    root = Path(next(iter(spec.submodule_search_locations)))
    stand_ins = {}
    for parent, path in (("sif2jax", root), ("sif2jax.cutest", root / "cutest")):
        if parent not in sys.modules:
            stand_ins[parent] = sys.modules[parent] = types.ModuleType(parent)
            sys.modules[parent].__path__ = [str(path)]
    try:
        return importlib.import_module(f"sif2jax.cutest.{name}")
    finally:
        # whoever imports sif2jax itself later gets the real one
        for parent in stand_ins:
            del sys.modules[parent]
