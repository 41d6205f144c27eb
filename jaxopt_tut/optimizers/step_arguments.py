"""What `step` refuses, in a sentence each: functions, values, gradients and states."""

from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

import jax
import numpy as np
import optax

from jaxopt_tut.losses import is_real_scalar, value_part
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import Optimizer, Params, PyTree


def check_functions(value_fn: Any, functions: Mapping[str, Any]) -> None:
    """Refuse what cannot be called, and names under which something else is handed over."""
    for name, function in {"value_fn": value_fn, **functions}.items():
        if name in ("value", "grad", "grad_fn", "obj_fn"):
            raise TypeError(f"step hands over {name!r} itself; what is known of it goes in known=.")
        if not callable(function):
            raise TypeError(f"step needs a function as {name}, got {_kind(function)}.")


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(map(_kind, value))})"
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    return f"{value.dtype}{list(value.shape)}" if is_array else type(value).__name__


_KEEP = (
    "evaluate what is beside it yourself, (value, aux), grad = jax.value_and_grad(..., "
    "has_aux=True)(params), and hand over the loss alone, known=(value, optax.tree.conj(grad))"
)


def with_real_values(value_fn: Callable[[Params], Any]) -> Callable[[Params], Any]:
    """Refuse what cannot be descended where it is evaluated, whoever does it."""

    def call(params: Params) -> Any:
        value = value_fn(params)
        if not is_real_scalar(value):
            is_pair = is_real_scalar(value_part(value))
            hint = f": {_KEEP}" if is_pair else ""
            raise ValueError(
                f"step needs value_fn to return a real scalar, got {_kind(value)}{hint}."
            )
        return value

    return call


def check_known(known: Any, params: Params) -> None:
    """Refuse a value and a gradient that do not belong to the parameters."""
    if not isinstance(known, tuple) or len(known) != 2:
        raise TypeError(f"step needs a pair (value, grad) as known, got {_kind(known)}.")
    value, grad = known
    if not is_real_scalar(value):
        raise ValueError(f"step needs a real scalar as the value in known, got {_kind(value)}.")
    # of one example each, or of a pair's fast parameters, a gradient has other shapes
    if isinstance(params, optax.LookaheadParams):
        return
    ours, theirs = named_leaves(params), named_leaves(grad)
    none: Any = ("(no leaf)", None)  # of another name than any leaf's
    for (name, leaf), (other, part) in zip_longest(ours, theirs, fillvalue=none):
        if name != other:
            raise ValueError(
                f"step needs a gradient as the parameters, got {other!r} for {name!r}."
            )
        shape, found = np.shape(leaf), np.shape(part)
        if found not in (shape, (*found[:1], *shape)):
            raise ValueError(
                f"step needs a gradient as the parameters, got shape {found} for {shape} at "
                f"{name!r}."
            )
    if jax.tree.structure(grad) != jax.tree.structure(params):
        raise ValueError(
            f"step needs a gradient as the parameters, got {jax.tree.structure(grad)} for "
            f"{jax.tree.structure(params)}."
        )


def check_shapes(new: Params, old: Params) -> None:
    """Refuse an update that would change the parameters' shapes."""
    for (name, after), before in zip(named_leaves(new), jax.tree.leaves(old), strict=True):
        if np.shape(after) != np.shape(before):
            raise ValueError(
                f"step needs updates as the parameters, got shape {np.shape(after)} for "
                f"{np.shape(before)} at {name!r}: the state belongs to other parameters, or the "
                "gradient is that of many examples."
            )


def check_state(state: PyTree, optimizer: Optimizer, params: Params, error: Exception) -> None:
    """Say, after an error, that the state is that of another optimizer or of other parameters."""
    try:
        fresh = jax.eval_shape(optimizer.init, params)
    except Exception:  # it is the parameters that it cannot use
        return
    none: Any = ("(no leaf)", None)  # of another name than any leaf's
    for ours, theirs in zip_longest(named_leaves(fresh), named_leaves(state), fillvalue=none):
        (name, leaf), (other, part) = ours, theirs
        if name != other or np.shape(leaf) != np.shape(part):
            found = repr(other) if name != other else f"shape {np.shape(part)}"
            wanted = repr(name) if name != other else f"{np.shape(leaf)} at {name!r}"
            raise ValueError(
                f"step needs the state of its optimizer, got {found} for {wanted}: it belongs to "
                "another optimizer or to other parameters."
            ) from error
