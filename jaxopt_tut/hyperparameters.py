"""Hyper-parameters are arguments: static ones are checked, `jax.Array`s pass, and all are cast.

A `jax.Array` may be a tracer (of `grad`, `vmap` or `jit`) or live on a device, so its value is
never read here, and a function does the same under `jit` and outside; its type and shape are known
in every case.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact

__all__ = [
    "cast",
    "require_decay",
    "require_finite",
    "require_increasing",
    "require_nonnegative",
    "require_positive",
    "require_real",
]


def require_real(caller: str, *, scalar: bool = True, **values: Any) -> None:
    """Refuse hyper-parameters that are no real numbers, or arrays where one number is due.

    Args:
      caller: The name of the function that asks; it opens the message.
      scalar: Whether an array with axes is refused.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is no real number. Complex arrays pass: that is what
        `optax.inject_hyperparams` makes of a number beside complex parameters.
      ValueError: If `scalar` and a value has axes.

    Example:
      >>> require_real("orthogonal", scale="2")
      Traceback (most recent call last):
      ...
      TypeError: orthogonal needs a real number as scale, got scale='2'.
    """
    for name, value in values.items():
        if not _is_real(value if scalar else _as_array(value)):
            raise TypeError(f"{caller} needs a real number as {name}, got {name}={value!r}.")
        if scalar and jnp.ndim(value) != 0:
            raise ValueError(f"{caller} needs a scalar {name}, got shape {jnp.shape(value)}.")


def require_finite(caller: str, *, scalar: bool = True, **values: Any) -> None:
    """Refuse hyper-parameters that are infinite or not a number.

    Args:
      caller: The name of the function that asks.
      scalar: Whether an array with axes is refused.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is no real number.
      ValueError: If `scalar` and a value has axes, or if it is static and not finite.

    Example:
      >>> require_finite("sgd", learning_rate=0.1)
      >>> require_finite("sgd", learning_rate=float("nan"))
      Traceback (most recent call last):
      ...
      ValueError: sgd needs a finite learning_rate, got learning_rate=nan.
    """
    _require(caller, "a finite {}", np.isfinite, scalar, values)


def require_nonnegative(caller: str, *, scalar: bool = True, **values: Any) -> None:
    """Refuse hyper-parameters that are negative, infinite or not a number.

    Args:
      caller: The name of the function that asks.
      scalar: Whether an array with axes is refused.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is no real number.
      ValueError: If `scalar` and a value has axes, or if it is static and not in [0, inf).

    Example:
      >>> require_nonnegative("adam", eps=-1.0)
      Traceback (most recent call last):
      ...
      ValueError: adam needs a finite eps >= 0, got eps=-1.0.
    """
    _require(caller, "a finite {} >= 0", lambda x: (x >= 0) & (x < math.inf), scalar, values)


def require_positive(
    caller: str, *, scalar: bool = True, finite: bool = False, **values: Any
) -> None:
    """Refuse hyper-parameters that are not above 0.

    Args:
      caller: The name of the function that asks.
      scalar: Whether an array with axes is refused.
      finite: Whether infinity is refused.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is no real number.
      ValueError: If `scalar` and a value has axes, or if it is static and not above 0.

    Example:
      >>> require_positive("exact", tol=0.0)
      Traceback (most recent call last):
      ...
      ValueError: exact needs tol > 0, got tol=0.0.
    """
    rule = "a finite {} > 0" if finite else "{} > 0"
    _require(caller, rule, lambda x: (x > 0) & (np.isfinite(x) | (not finite)), scalar, values)


def require_decay(caller: str, **values: Any) -> None:
    """Refuse decay rates outside of [0, 1).

    Args:
      caller: The name of the function that asks.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is no real number.
      ValueError: If a value has axes, or if it is static and outside of [0, 1).

    Example:
      >>> require_decay("momentum", decay=1.2)
      Traceback (most recent call last):
      ...
      ValueError: momentum needs 0 <= decay < 1, got decay=1.2.
    """
    _require(caller, "0 <= {} < 1", lambda x: (x >= 0) & (x < 1), True, values)


def require_increasing(caller: str, **values: Any) -> None:
    """Refuse hyper-parameters that are not in order between 0 and 1, both excluded.

    Args:
      caller: The name of the function that asks.
      **values: Hyper-parameters by name, in the order in which they should grow.

    Raises:
      TypeError: If a value is no real number.
      ValueError: If a value has axes, or if the static ones are out of order.

    Example:
      >>> require_increasing("wolfe", c1=0.9, c2=0.1)
      Traceback (most recent call last):
      ...
      ValueError: wolfe needs 0 < c1 < c2 < 1, got c1=0.9, c2=0.1.
    """
    require_real(caller, **values)
    static = [value for value in values.values() if not isinstance(value, jax.Array)]
    if not all(low < high for low, high in pairwise([0, *static, 1])):
        got = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ValueError(f"{caller} needs 0 < {' < '.join(values)} < 1, got {got}.")


def _require(
    caller: str, rule: str, holds: Callable[[Any], Any], scalar: bool, values: dict[str, Any]
) -> None:
    require_real(caller, scalar=scalar, **values)
    for name, value in values.items():
        is_static = not isinstance(value, jax.Array)
        if is_static and not np.all(holds(np.real(np.asarray(value)).astype(float))):
            raise ValueError(f"{caller} needs {rule.format(name)}, got {name}={value}.")


def _as_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list | tuple) else value


def _is_real(value: Any) -> bool:
    """Tell whether a value is made of numbers, none of them a truth value or off the real line."""
    if not isinstance(value, int | float | complex | np.number | np.ndarray | jax.Array):
        return False
    dtype = jnp.result_type(value)
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    return isinstance(value, jax.Array) or bool(np.all(np.imag(value) == 0))


def cast(value: ArrayLike, dtype: DTypeLike) -> Inexact[Array, "..."]:
    """Express a hyper-parameter in the dtype of a leaf, so that it never promotes the leaf.

    Args:
      value: A real number, or an array of them. (Of a complex one the real part is taken.)
      dtype: The leaf's dtype, floating or complex.

    Returns:
      The number in that dtype.

    Example:
      >>> cast(jnp.float32(0.5), jnp.bfloat16).dtype
      dtype(bfloat16)
    """
    return jnp.asarray(jnp.real(value), dtype)
