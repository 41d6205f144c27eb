"""The value of a loss apart from what it returns besides, and sentences where that is no value."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_tut.losses import is_real_scalar
from jaxopt_tut.types import PyTree


def value_and_aux(
    fun: Callable[..., Any], has_aux: bool, params: PyTree, args: tuple
) -> tuple[Any, PyTree]:
    """Call a loss; the second is `None` without auxiliary values."""
    try:
        value, aux = fun(params, *args), None
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        error.add_note(
            "minimize traces fun, to differentiate and compile it: write it in jax.numpy, with "
            "jnp.where for an if on values."
        )
        raise
    except TypeError as error:
        if len(args) == 1 and isinstance(args[0], tuple):
            error.add_note("minimize takes the arguments of fun one by one, not as a tuple.")
        raise
    is_pair = isinstance(value, tuple) and len(value) == 2
    if has_aux:
        if not is_pair:
            raise ValueError(
                "minimize needs fun to return a pair (value, aux) under has_aux=True, got "
                f"{_kind(value)}."
            )
        value, aux = value
    if not _is_scalar(value):
        hint = ""
        if is_pair and not has_aux and _is_scalar(value[0]):
            hint = "; for a loss with auxiliary values write minimize(..., has_aux=True)"
        raise ValueError(f"minimize needs fun to return a real scalar, got {_kind(value)}{hint}.")
    return value, aux


_ARRAYS = (int, float, complex, np.generic, np.ndarray, jax.Array)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, _ARRAYS) and is_real_scalar(value)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(map(_kind, value))})"
    return str(jax.typeof(value)) if isinstance(value, _ARRAYS) else type(value).__name__
