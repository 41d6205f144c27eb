"""What users of SciPy write: taken where it is clear, and answered by what to write here."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from typing_extensions import TypeAliasType

from jaxopt_tut.optimizers.bounds import Bounds
from jaxopt_tut.optimizers.extra_arguments import is_transformation, require_optimizer
from jaxopt_tut.types import Optimizer, Params, PyTree

_WRITTEN = {
    "args": "minimize(fun, x0, optimizer, *args)",
    "method": "the optimizer itself, such as bfgs(), in the third place",
    "jac": "nothing: gradients come from JAX, and fun returns the value alone",
    "hess": "nothing: Hessians come from JAX; newton() and trust_region() take them",
    "hessp": "nothing: products come from JAX; newton_cg() takes them",
    "constraints": (
        "optax.chain(nonlinear_cg(), project(...)) as optimizer, with a set of projections"
    ),
    "tol": "gtol=, ftol= or xtol=",
    "maxiter": "max_steps=",
    "maxfun": "max_steps=",
    "maxfev": "max_steps=",
    "maxcor": "memory= of lbfgs() or lbfgsb()",
    "fatol": "ftol=",
    "xatol": "xtol=",
    "eps": "nothing: gradients come from JAX",
    "disp": "print(solution)",
    "return_all": "history=True",
    "full_output": "nothing: all is in the solution",
    "options": "max_steps=, gtol=, ftol= or xtol=",
}
"""What SciPy's keywords are here."""

_OURS = [
    "gtol",
    "ftol",
    "xtol",
    "max_steps",
    "history",
    "residual_fn",
    "has_aux",
    "bounds",
    "callback",
    "callback_every",
]

_METHODS = {
    "bfgs": "bfgs()",
    "lbfgs": "lbfgs()",
    "lbfgsb": "lbfgs(), or lbfgsb() with bounds=",
    "tnc": "newton_cg(), or lbfgsb() with bounds=",
    "cg": "nonlinear_cg()",
    "newtoncg": "newton_cg()",
    "newton": "newton()",
    "dogleg": "trust_region()",
    "trustncg": "trust_region()",
    "trustkrylov": "trust_region()",
    "trustexact": "trust_region()",
    "trustconstr": "lbfgsb() with bounds=, or project(...) at the end of a chain",
    "slsqp": "lbfgsb() with bounds=, or project(...) at the end of a chain",
    "cobyla": "lbfgsb() with bounds=, or project(...) at the end of a chain",
    "cobyqa": "lbfgsb() with bounds=, or project(...) at the end of a chain",
    "neldermead": "bfgs(): gradients come from JAX",
    "powell": "bfgs(): gradients come from JAX",
    "lm": "levenberg_marquardt() with residual_fn=",
    "adam": "adam(learning_rate)",
    "sgd": "sgd(learning_rate)",
}
"""What SciPy's methods are here, by their letters alone."""


def refuse_words(unknown: Mapping[str, Any]) -> None:
    """Refuse keywords that `minimize` does not have, all at once, and say what to write."""
    if unknown:
        raise TypeError(" ".join(_answer(name, value) for name, value in unknown.items()))


def _answer(name: str, value: Any) -> str:
    if name == "options" and isinstance(value, Mapping) and value:
        parts = [f"for {key!r} {_written(key)}" for key in map(str, value)]
        return f"minimize has no options=; write {', '.join(parts)}."
    if name == "method" and isinstance(value, str) and _key(value) in _METHODS:
        written = f"in the third place {_METHODS[_key(value)]}"
    else:
        written = _WRITTEN.get(name)
    if written is None:
        near = difflib.get_close_matches(name, _OURS, 1)
        return f"minimize has no {name}=" + (
            f"; write {near[0]}=." if near else " among its options."
        )
    return f"minimize has no {name}=; write {written}."


def _written(key: str) -> str:
    return f"{key}=" if key in _OURS else _WRITTEN.get(key, "nothing")


def as_optimizer(optimizer: Any, args: Sequence[Any], has_bounds: bool = False) -> Optimizer:
    """Refuse no optimizer at all, its name, what was not called, and one among the arguments."""
    needs = "minimize needs an optax transformation as optimizer"
    if optimizer is None:
        written = "lbfgsb(), bounds=..." if has_bounds else "bfgs()"
        raise TypeError(f"{needs}, got none: write minimize(fun, x0, {written}).")
    if isinstance(optimizer, str):
        written = _METHODS.get(_key(optimizer), "the optimizer itself, such as bfgs()")
        raise TypeError(f"{needs}, got {optimizer!r}: write {written}.")
    if not is_transformation(optimizer) and any(map(is_transformation, args)):
        raise TypeError(f"{needs} in the third place, before the arguments of fun.")
    require_optimizer("minimize", optimizer)
    return optimizer


_RESULTS = {
    "x": "params",
    "fun": "value",
    "success": "converged",
    "nit": "steps",
    "nfev": "evaluations",
    "njev": "evaluations",
    "jac": "grad_norm",
}
"""What SciPy's results are here."""


def no_attribute(thing: str, name: str) -> AttributeError:
    """Return the error for a name that a result does not have, with the one that it has."""
    hint = f"; write {_RESULTS[name]}" if name in _RESULTS else ""
    return AttributeError(f"{thing} has no attribute {name!r}{hint}.")


def _key(name: str) -> str:
    return "".join(filter(str.isalpha, name.lower()))


@runtime_checkable
class HasBounds(Protocol):
    """`scipy.optimize.Bounds`, told by its attributes."""

    lb: Any
    ub: Any


BoundsLike = TypeAliasType("BoundsLike", Bounds | Sequence[Any] | np.ndarray | HasBounds)
"""`(lower, upper)`, or what SciPy takes: its `Bounds`, or a pair for each parameter."""


def as_bounds(bounds: BoundsLike, params: Params) -> PyTree:
    """Return `(lower, upper)` of what SciPy takes, and anything else as it is."""
    if isinstance(bounds, HasBounds):
        return _flat(bounds.lb), _flat(bounds.ub)
    size = getattr(params, "size", None)  # of an array, not of a tree
    if size is None or params.ndim > 1 or not _are_pairs(bounds):
        return bounds
    pairs = list(bounds)
    if size == 2 and len(pairs) == 2 and not all(isinstance(pair, tuple) for pair in pairs):
        if isinstance(bounds, tuple):
            return bounds
        raise ValueError(
            "minimize cannot tell whether bounds= has a pair for each of two parameters or "
            "(lower, upper); write pairs as tuples, [(low, high), (low, high)], or a tuple of "
            "arrays, (lower, upper)."
        )
    if len(pairs) != size:
        if len(pairs) == 2 and isinstance(bounds, tuple):
            return bounds
        raise TypeError(
            "minimize needs bounds=(lower, upper), or a pair (low, high) for each parameter, got "
            f"{len(pairs)} pairs for {size}."
        )
    low = [-np.inf if pair[0] is None else pair[0] for pair in pairs]
    high = [np.inf if pair[1] is None else pair[1] for pair in pairs]
    return _flat(low), _flat(high)


def _are_pairs(bounds: Any) -> bool:
    if isinstance(bounds, np.ndarray):
        return bounds.ndim == 2 and bounds.shape[1] == 2
    is_end = lambda end: end is None or isinstance(end, int | float | np.number)
    is_pair = lambda pair: (
        isinstance(pair, tuple | list | np.ndarray) and len(pair) == 2 and all(map(is_end, pair))
    )
    return isinstance(bounds, list | tuple) and len(bounds) > 0 and all(map(is_pair, bounds))


def _flat(bound: Any) -> Any:
    """Return a bound as an array, or as a number if there is one for all."""
    bound = np.asarray(bound, float)
    return bound.item() if bound.size == 1 else bound
