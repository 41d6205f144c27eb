"""What is known of a value while JAX traces: nothing of a tracer, all of the rest."""

from typing import Any

import jax
import numpy as np

__all__ = ["is_traced", "is_tracing", "known", "seen"]


def is_traced(value: Any) -> bool:
    """Tell a tracer, which a transformation of JAX follows, from what has its numbers already.

    Example:
      >>> is_traced(jax.numpy.ones(2)), is_traced(1.0), is_traced("relu")
      (False, False, False)
      >>> jax.eval_shape(lambda x: x if is_traced(x) else None, 1.0).shape
      ()
    """
    if not isinstance(value, jax.Array):
        return False
    try:  # only an array lies on devices
        return value.is_fully_addressable not in (True, False)
    except (AttributeError, jax.errors.ConcretizationTypeError):
        return True


def seen(value: Any) -> Any:
    """Return the numbers of a value if they can be looked at, and the value itself if not.

    For functions that are called outside of `jit`, and that look at arrays on a device as they look
    at numbers of Python.

    Returns:
      A NumPy array, a tracer, or an array that lies in part on other machines.

    Example:
      >>> seen(jax.numpy.float32(2.0)), jax.eval_shape(seen, 1.0).shape
      (array(2., dtype=float32), ())
    """
    numbers = known(value)
    return value if numbers is None else numbers


def known(value: Any) -> np.ndarray | None:
    """Return the numbers of a value, if they can be looked at.

    Returns:
      A NumPy array; `None` of a tracer, and of an array that lies in part on other machines.

    Example:
      >>> known(2.0).item(), jax.eval_shape(lambda x: x if known(x) is None else None, 1.0).shape
      (2.0, ())
    """
    if is_traced(value) or not getattr(value, "is_fully_addressable", True):
        return None
    return np.asarray(value)


def is_tracing() -> bool:
    """Tell whether an operation on concrete arrays would be recorded instead of executed.

    Returns:
      True under `jax.jit` and all that traces as it does, False under `jax.grad` and `jax.vmap`.

    Example:
      >>> is_tracing(), jax.eval_shape(lambda: is_tracing() or 1).dtype
      (False, dtype('bool'))
    """
    try:
        np.asarray(jax.lax.full((), 0, np.int32))
    except jax.errors.TracerArrayConversionError:
        return True
    return False
