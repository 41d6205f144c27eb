"""What users give: counts, metrics and scores, and the functions that return them."""

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from types import ModuleType
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from typing_extensions import TypeAliasType

Count = TypeAliasType("Count", SupportsIndex)
"""An integer of Python, NumPy or JAX."""


def as_metrics(caller: str, function: str, metrics: Any) -> dict[str, Array]:
    """Make arrays, traced ones perhaps, of metrics: real scalars in one flat dictionary."""
    return {
        name: _real_scalar(caller, name, value, jnp)
        for name, value in _require_mapping(caller, function, metrics).items()
    }


def as_floats(caller: str, function: str, metrics: Any) -> dict[str, float]:
    """Make numbers of Python, in double precision, of metrics that are not traced."""
    return {
        name: float(_real_scalar(caller, name, value, np))
        for name, value in _require_mapping(caller, function, metrics).items()
    }


def as_score(value: Any, caller: str = "fit") -> float:
    """Make a number, which may be infinite or none, of what `score` returned."""
    try:
        return float(_real_scalar(caller, "score", value, np))
    except TypeError as error:
        raise TypeError(f"{caller} needs score to return a number, got {value!r}.") from error


def as_count(caller: str, name: str, value: Any) -> int:
    """Make an integer of Python of any integer; truth values and whole floats are none.

    Example:
      >>> as_count("fit", "batch_size", 16.0)
      Traceback (most recent call last):
      ...
      TypeError: fit needs an integer batch_size, got batch_size=16.0.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{caller} needs an integer {name}, got {name}={value!r}.") from None


def check_call(
    caller: str, name: str, function: Callable[..., Any], arguments: Sequence[str], hint: str = ""
) -> None:
    """Refuse a function that cannot be called with so many arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        kind = "a loss" if name == "loss_fn" else "one"
        raise TypeError(
            f"{caller} calls {name}({', '.join(arguments)}), got {kind} of {signature}: "
            f"{error}{hint}."
        ) from None


def require_hash(name: str, function: Any, caller: str = "fit") -> None:
    """Refuse what a compiled program cannot be found again by."""
    try:
        hash(function)
    except TypeError:
        article = "an" if name[0] in "aeiou" else "a"
        raise TypeError(
            f"{caller} needs {article} {name} with a hash, by which its program is found again, "
            f"got {type(function).__name__}: a dataclass has one with frozen=True."
        ) from None


def _require_mapping(caller: str, function: str, metrics: Any) -> Mapping[Any, Any]:
    if isinstance(metrics, Mapping):
        for name in metrics:
            if not isinstance(name, str):
                raise TypeError(f"{caller} needs metrics that are named by texts, got {name!r}.")
        return metrics
    found = "an array" if isinstance(metrics, jax.Array) else type(metrics).__name__
    raise TypeError(f"{caller} needs {function} to return a dictionary of scalars, got {found}.")


def _real_scalar(caller: str, name: Any, value: Any, numpy: ModuleType) -> Any:
    """Make an array by `numpy`, which is NumPy or JAX's; refuse whatever is no real scalar."""
    try:
        array = numpy.asarray(_narrowed(value))
        is_number = not jnp.issubdtype(array.dtype, jax.dtypes.extended)  # as keys are
        is_number = is_number and array.dtype.kind not in "OSU"
    except (TypeError, ValueError):
        is_number = False
    if not is_number:
        raise TypeError(
            f"{caller} needs scalar metrics in one flat dictionary, "
            f"got {type(value).__name__} for {name!r}."
        )
    is_real = any(
        jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)
    )
    if array.shape != () or not is_real:
        raise TypeError(
            f"{caller} needs real scalar metrics, each a mean over the batch, "
            f"got {array.dtype}{list(array.shape)} for {name!r}."
        )
    return array


def _narrowed(value: Any) -> Any:
    """Make a double of a number for which JAX has no dtype, or one in which it wraps around."""
    is_of_python = isinstance(value, int | Fraction | Decimal)
    is_of_numpy = isinstance(value, np.ndarray | np.generic) and value.shape == ()
    is_wide = is_of_numpy and (value.dtype.str[1:] in ("i8", "u8") or value.dtype.char == "g")
    if not (is_of_python or is_wide):
        return value
    try:
        return float(value)
    except OverflowError:  # a metric is a value: too large a one is infinite, and no error
        return math.inf if bool(value > 0) else -math.inf  # pyright: ignore[reportOperatorIssue]
