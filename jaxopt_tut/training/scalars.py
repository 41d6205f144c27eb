"""Numbers that users give: counts, metrics and scores."""

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def as_metrics(caller: str, function: str, metrics: Any) -> dict[str, Array]:
    """Make arrays of metrics: numbers of Python, NumPy or JAX in one flat dictionary.

    Args:
      caller: The name of the function that asks; it opens the messages.
      function: The name of the argument that returned them.
      metrics: What it returned.

    Returns:
      Real scalars, which may be traced.

    Raises:
      TypeError: If they are anything else.

    Example:
      >>> as_metrics("evaluator", "metrics_fn", jnp.ones(()))
      Traceback (most recent call last):
      ...
      TypeError: evaluator needs metrics_fn to return a dictionary of scalars, got an array.
    """
    return {
        name: _real_scalar(caller, name, float(value) if isinstance(value, int) else value, jnp)
        for name, value in _require_mapping(caller, function, metrics).items()
    }


def as_floats(caller: str, function: str, metrics: Any) -> dict[str, float]:
    """Make numbers of Python of metrics, in double precision; as `as_metrics` otherwise.

    Args:
      caller: As there.
      function: As there.
      metrics: As there, but not traced.

    Returns:
      Numbers, in a dictionary.

    Raises:
      TypeError: As there.

    Example:
      >>> as_floats("fit", "evaluate", {"accuracy": np.float64(0.1), "right": 3})
      {'accuracy': 0.1, 'right': 3.0}
    """
    return {
        name: float(_real_scalar(caller, name, value, np))
        for name, value in _require_mapping(caller, function, metrics).items()
    }


def as_score(value: Any) -> float:
    """Make a number of what `score` returned.

    Args:
      value: A real scalar.

    Returns:
      The number; it may be infinite or none.

    Raises:
      TypeError: If it is anything else.

    Example:
      >>> as_score(None)
      Traceback (most recent call last):
      ...
      TypeError: fit needs score to return a number, got None.
    """
    try:
        return float(_real_scalar("fit", "score", value, np))
    except TypeError as error:
        raise TypeError(f"fit needs score to return a number, got {value!r}.") from error


def as_count(caller: str, name: str, value: Any) -> int:
    """Make an integer of Python of any integer.

    Args:
      caller: The name of the function that asks; it opens the message.
      name: Of the argument.
      value: An integer of Python, NumPy or JAX.

    Returns:
      The integer.

    Raises:
      TypeError: If it is a truth value, a float (a whole one, too) or no number.

    Example:
      >>> as_count("fit", "batch_size", np.int64(16))
      16
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


def _require_mapping(caller: str, function: str, metrics: Any) -> Mapping[str, Any]:
    if isinstance(metrics, Mapping):
        return metrics
    found = "an array" if isinstance(metrics, jax.Array) else type(metrics).__name__
    raise TypeError(f"{caller} needs {function} to return a dictionary of scalars, got {found}.")


def _real_scalar(caller: str, name: str, value: Any, numpy: Any) -> Any:
    """Make an array by `numpy`, which is NumPy or JAX's; refuse whatever is no real scalar."""
    try:
        array = numpy.asarray(value)
        is_number = array.dtype.kind not in "OSU"
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
