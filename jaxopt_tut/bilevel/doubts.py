"""What an `Info` says against a derivative: warned of outside of a trace, raised if asked for."""

import math
import warnings
from typing import Any

import jax

from jaxopt_tut.bilevel.modes.certificate import is_solved
from jaxopt_tut.bilevel.problem import default_tolerance
from jaxopt_tut.bilevel.result import Info
from jaxopt_tut.tracing import is_traced

_NAMES = ("inner_residual", "converged", "steps", "linear_residual", "iterations")
_NAMES += ("is_definite", "is_finite")


class HypergradientWarning(UserWarning):
    """A hypergradient that is not to be relied on: not converged, not definite or not finite."""


def warn_of_doubts(info: Info, caller: str, *, needs_optimum: bool, stacklevel: int = 3) -> None:
    """Warn once of all that speaks against a hypergradient, if its values are known.

    Inside `jit`, `vmap` and other transformations nothing is known, and nothing is said.
    """
    known = _values(info)
    if any(is_traced(value) for value in known.values()):
        return
    doubts = find_doubts(jax.device_get(known), needs_optimum=needs_optimum)
    if doubts:
        message = f"{caller} returns a derivative not to be relied on: {'; '.join(doubts)}."
        warnings.warn(message, HypergradientWarning, stacklevel=stacklevel)


def require_sound(info: Info, caller: str) -> None:
    """Raise if anything speaks against a run: at once, or when the compiled program gets there."""

    def refuse(known: dict[str, Any]) -> None:
        doubts = find_doubts(known, needs_optimum=True)
        if not doubts:
            return
        if not known["converged"]:
            doubts = [f"got {_residuals(known)}", *doubts]
            rule = "a converged inner problem"
        else:
            rule = "a derivative to be relied on"
        raise ValueError(f"{caller} needs {rule} under check=True, {'; '.join(doubts)}.")

    known = jax.lax.stop_gradient(_values(info))
    if any(is_traced(value) for value in known.values()):
        jax.debug.callback(refuse, known)
    else:
        refuse(jax.device_get(known))


def find_doubts(known: dict[str, Any], *, needs_optimum: bool) -> list[str]:
    """List what speaks against a hypergradient, each with a remedy."""
    inner = known["inner_residual"]
    if not known.get("is_finite", True):
        if not math.isfinite(inner):
            return [f"it is not finite, as the inner run diverges: {_residuals(known)}; {_LOWER}"]
        return [f"it is not finite, though the inner run is; {_ZERO_SAFE}"]
    doubts = []
    if needs_optimum and not known["converged"]:
        remedies = []
        if not inner <= default_tolerance(inner.dtype):
            remedies += [_MORE_STEPS]
        if "linear_residual" in known and not is_solved(known["linear_residual"]):
            remedies += [_SINGULAR]
        doubts += [f"it has not converged ({_residuals(known)}); {'; '.join(remedies or [_TOL])}"]
    if not known.get("is_definite", True):
        doubts += [f"the inner function does not curve upwards in every direction; {_SADDLE}"]
    return doubts


_LOWER = "lower its learning rate"
_ZERO_SAFE = (
    "f, outer or the solver multiply 0 by infinity in their derivatives (a root at 0, as in "
    "optax's adam): take one of jaxopt_tut.optimizers, or autodiff.zero_safe"
)
_MORE_STEPS = "take more steps, a faster solver, or differentiate the steps by Unroll()"
_SINGULAR = (
    "the linear system has no solution, or none was found: what outer asks for depends on the "
    "start, or the inner problem is too ill-conditioned: add a penalty to f, or take "
    "Implicit(damping=...), Implicit(LeastSquares()) or Unroll()"
)
_SADDLE = (
    "its point is a saddle or one of a whole set of solutions: take more steps, add a penalty to "
    "f, or take Implicit(damping=...) or Unroll()"
)
_TOL = "take more steps or a larger tol"


def _residuals(known: dict[str, Any]) -> str:
    text = f"an inner residual of {float(known['inner_residual']):.3g} after {known['steps']} steps"
    if "linear_residual" in known:
        text += f", a linear residual of {float(known['linear_residual']):.3g}"
        if "iterations" in known:
            text += f" after {known['iterations']} products"
    return text


def _values(info: Info) -> dict[str, Any]:
    found = {name: getattr(info, name) for name in _NAMES}
    return {name: value for name, value in found.items() if value is not None}
