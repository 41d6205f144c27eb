"""Whole numbers: as Python's, NumPy's, or too large for the counter of a compiled loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["as_limit", "is_below", "whole_number"]

_LARGEST = int(np.iinfo(np.int32).max)


def whole_number(value: Any) -> int | None:
    """Return a whole number that is known while tracing.

    Args:
      value: Anything; of Python, or of NumPy without axes.

    Returns:
      The number, or `None` for anything else: also for truth values and for JAX's arrays.

    Example:
      >>> whole_number(np.int64(5)), whole_number(5.0), whole_number(True)
      (5, None, None)
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return int(value) if is_whole else None


def as_limit(value: Any) -> Any:
    """Express a number of rounds in the precision of a counter; more is no limit at all.

    Args:
      value: A whole number, or an array that may be traced.

    Returns:
      A number of 32 bits.

    Example:
      >>> as_limit(2**40), as_limit(7)
      (2147483647, 7)
    """
    number = whole_number(value)
    if number is not None:
        return min(number, _LARGEST)
    if not isinstance(value, jax.Array) or not jnp.issubdtype(value.dtype, jnp.integer):
        return value
    least, most = (jnp.asarray(end, value.dtype) for end in _ends(value.dtype))
    return jnp.clip(value, least, most).astype(jnp.int32)


def is_below(value: Any, least: int) -> bool:
    """Tell whether a number is known to be too small.

    Args:
      value: A number; an array, which may be traced, is not looked at.
      least: The least one.

    Returns:
      False for arrays.

    Example:
      >>> is_below(0, 1), is_below(np.int64(1), 1), is_below(jnp.asarray(0), 1)
      (True, False, False)
    """
    return not isinstance(value, jax.Array) and bool(value < least)


def _ends(dtype: Any) -> tuple[int, int]:
    info = jnp.iinfo(dtype)
    return max(int(info.min), -_LARGEST), min(int(info.max), _LARGEST)
