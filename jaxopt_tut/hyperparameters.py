"""Hyper-parameters are arguments: static ones are checked, `jax.Array`s pass and are cast.

A `jax.Array` may be a tracer (of `grad`, `vmap` or `jit`) or live on a device, so its value is
never read here; its shape is known in every case.
"""

import math
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact


def require_finite(caller: str, **values: Any) -> None:
    """Refuse static hyper-parameters that are infinite or not a number.

    Args:
      caller: The optimizer's name; it opens the message.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is neither a number nor an array.
      ValueError: If a value is no scalar, or is static and not finite.

    Example:
      >>> require_finite("sgd", learning_rate=0.1)
      >>> require_finite("sgd", learning_rate=float("nan"))
      Traceback (most recent call last):
      ...
      ValueError: sgd needs a finite learning_rate, got learning_rate=nan.
    """
    for name, value in values.items():
        if _is_static(caller, name, value) and not math.isfinite(value):
            raise ValueError(f"{caller} needs a finite {name}, got {name}={value}.")


def require_decay(caller: str, **values: Any) -> None:
    """Refuse static decay rates outside of [0, 1).

    Args:
      caller: The optimizer's name; it opens the message.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is neither a number nor an array.
      ValueError: If a value is no scalar, or is static and outside of [0, 1).

    Example:
      >>> require_decay("momentum", decay=1.2)
      Traceback (most recent call last):
      ...
      ValueError: momentum needs 0 <= decay < 1, got decay=1.2.
    """
    for name, value in values.items():
        if _is_static(caller, name, value) and not 0 <= value < 1:
            raise ValueError(f"{caller} needs 0 <= {name} < 1, got {name}={value}.")


def require_nonnegative(caller: str, **values: Any) -> None:
    """Refuse static hyper-parameters that are negative, infinite or not a number.

    Args:
      caller: The optimizer's name; it opens the message.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is neither a number nor an array.
      ValueError: If a value is no scalar, or is static and negative or not finite.

    Example:
      >>> require_nonnegative("adam", eps=-1.0)
      Traceback (most recent call last):
      ...
      ValueError: adam needs a finite eps >= 0, got eps=-1.0.
    """
    for name, value in values.items():
        if _is_static(caller, name, value) and not 0 <= value < math.inf:
            raise ValueError(f"{caller} needs a finite {name} >= 0, got {name}={value}.")


def require_increasing(caller: str, **values: Any) -> None:
    """Refuse static hyper-parameters that are not in order between 0 and 1, both excluded.

    Args:
      caller: The optimizer's name; it opens the message.
      **values: Hyper-parameters by name, in the order in which they should grow.

    Raises:
      TypeError: If a value is neither a number nor an array.
      ValueError: If a value is no scalar, or if the static ones are out of order.

    Example:
      >>> require_increasing("wolfe", c1=0.9, c2=0.1)
      Traceback (most recent call last):
      ...
      ValueError: wolfe needs 0 < c1 < c2 < 1, got c1=0.9, c2=0.1.
    """
    static = [value for name, value in values.items() if _is_static(caller, name, value)]
    if not all(low < high for low, high in pairwise([0, *static, 1])):
        got = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ValueError(f"{caller} needs 0 < {' < '.join(values)} < 1, got {got}.")


def require_positive(caller: str, **values: Any) -> None:
    """Refuse static hyper-parameters that are not above 0.

    Args:
      caller: The optimizer's name; it opens the message.
      **values: Hyper-parameters by name.

    Raises:
      TypeError: If a value is neither a number nor an array.
      ValueError: If a value is no scalar, or is static and not above 0.

    Example:
      >>> require_positive("exact", tol=0.0)
      Traceback (most recent call last):
      ...
      ValueError: exact needs tol > 0, got tol=0.0.
    """
    for name, value in values.items():
        if _is_static(caller, name, value) and not value > 0:
            raise ValueError(f"{caller} needs {name} > 0, got {name}={value}.")


def _is_static(caller: str, name: str, value: Any) -> bool:
    if not isinstance(value, int | float | np.number | np.ndarray | jax.Array):
        raise TypeError(f"{caller} needs a number or an array as {name}, got {name}={value!r}.")
    if jnp.ndim(value) != 0:
        raise ValueError(f"{caller} needs a scalar {name}, got shape {jnp.shape(value)}.")
    return not isinstance(value, jax.Array)


def cast(value: ArrayLike, dtype: DTypeLike) -> Inexact[Array, ""]:
    """Express a hyper-parameter in the dtype of a leaf, so that it never promotes the leaf.

    Args:
      value: A real scalar. (Complex with zero imaginary part is what `optax.inject_hyperparams`
        makes of it beside complex parameters; the real part is taken.)
      dtype: The leaf's dtype, floating or complex.

    Returns:
      The scalar in that dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> cast(jnp.float32(0.5), jnp.bfloat16).dtype
      dtype(bfloat16)
    """
    return jnp.asarray(jnp.real(value), dtype)
