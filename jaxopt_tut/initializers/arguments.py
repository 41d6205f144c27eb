"""What every initializer asks of its arguments, and how it refuses the rest."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from jaxopt_tut.types import Shape

Axes = int | Sequence[int]
"""One axis of a kernel, or several that count as one."""


def concrete(value: ArrayLike) -> np.ndarray | None:
    """Return the value as a numpy array, or None if it is traced and so can't be looked at.

    Args:
      value: A number, an array or a tracer.

    Returns:
      The numbers, when there are any yet.

    Example:
      >>> import jax
      >>> concrete(2.0).item()
      2.0
      >>> seen = []
      >>> _ = jax.jit(lambda x: seen.append(concrete(x)) or x)(1.0)
      >>> seen
      [None]
    """
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return None


def require_nonnegative(caller: str, name: str, value: ArrayLike, *, scalar: bool = True) -> None:
    """Refuse a hyper-parameter that is negative, not finite, or not one real number.

    Args:
      caller: The function that asks; it opens the message.
      name: The argument's name.
      value: The argument; only the shape of a traced one is checked.
      scalar: Whether an array is refused.

    Raises:
      ValueError: If the value breaks the rule.
      TypeError: If the value is no real number at all.

    Example:
      >>> require_nonnegative("normal", "stddev", -1.0)
      Traceback (most recent call last):
      ...
      ValueError: normal needs a finite stddev >= 0, got stddev=-1.0.
    """
    require_real(caller, name, value, scalar=scalar)
    known = concrete(value)
    if known is not None and not (np.isfinite(known) & (known >= 0)).all():
        raise ValueError(f"{caller} needs a finite {name} >= 0, got {name}={value}.")


def require_real(caller: str, name: str, value: ArrayLike, *, scalar: bool = True) -> None:
    """Refuse a hyper-parameter that is no real number, or an array where one number is due.

    Args:
      caller: The function that asks; it opens the message.
      name: The argument's name.
      value: The argument.
      scalar: Whether an array is refused.

    Raises:
      TypeError: If the value is no real number.
      ValueError: If `scalar` and the value is an array.

    Example:
      >>> require_real("orthogonal", "scale", "2")
      Traceback (most recent call last):
      ...
      TypeError: orthogonal needs a real number as scale, got scale='2'.
    """
    dtype = getattr(value, "dtype", None) or np.asarray(value).dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"{caller} needs a real number as {name}, got {name}={value!r}.")
    if scalar and jnp.shape(value) != ():
        raise ValueError(f"{caller} needs a scalar {name}, got shape {jnp.shape(value)}.")


def require_inexact_dtype(caller: str, dtype: DTypeLike) -> np.dtype:
    """Refuse a dtype whose numbers have no derivative.

    Args:
      caller: The function that asks; it opens the message.
      dtype: What the caller was asked to draw.

    Returns:
      The dtype as an object.

    Raises:
      TypeError: If it is neither floating nor complex.

    Example:
      >>> require_inexact_dtype("normal", "bfloat16").name
      'bfloat16'
    """
    if dtype is not None:  # numpy reads None as float64
        dtype = jnp.dtype(dtype)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(f"{caller} needs a floating or complex dtype, got {dtype}.")
    return dtype


def drawing_dtype(dtype: np.dtype) -> np.dtype:
    """Return the precision to draw in: at least single, so that half types keep their tails.

    Args:
      dtype: The floating or complex dtype asked for.

    Returns:
      `float32` for anything narrower, otherwise `dtype` itself.

    Example:
      >>> drawing_dtype(jnp.dtype("bfloat16")).name, drawing_dtype(jnp.dtype("complex64")).name
      ('float32', 'complex64')
    """
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else dtype


def require_kernel(caller: str, shape: Shape, *, min_rank: int = 2) -> Shape:
    """Refuse a shape that is too short for a kernel, or not a shape.

    Args:
      caller: The function that asks; it opens the message.
      shape: The kernel's shape.
      min_rank: The smallest rank with a meaning to the caller.

    Returns:
      The shape as a tuple.

    Raises:
      ValueError: If the rank is too small or an entry is negative.

    Example:
      >>> require_kernel("orthogonal", (3,))
      Traceback (most recent call last):
      ...
      ValueError: orthogonal needs a shape of rank >= 2, got shape (3,).
    """
    shape = tuple(shape)
    if len(shape) < min_rank:
        raise ValueError(f"{caller} needs a shape of rank >= {min_rank}, got shape {shape}.")
    if any(size < 0 for size in shape):
        raise ValueError(f"{caller} needs a shape without negative sizes, got shape {shape}.")
    return shape


def fans(
    caller: str, shape: Shape, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> tuple[int, int]:
    r"""Count the inputs and outputs one unit of a kernel touches.

    $$n_\text{in} = r \prod_{a\,\in\,\text{in}} s_a, \qquad
      n_\text{out} = r \prod_{a\,\in\,\text{out}} s_a, \qquad
      r = \prod_{a\,\notin\,\text{in, out, batch}} s_a.$$

    The receptive field $r$ is what is left of the shape: the window of a convolution (HWIO).

    Args:
      caller: The function that asks; it opens the messages.
      shape: The kernel's shape $s$.
      in_axis: The axis or axes summed over.
      out_axis: The axis or axes of the result.
      batch_axis: Axes along which independent kernels are stacked.

    Returns:
      `fan_in` and `fan_out`.

    Raises:
      ValueError: If an axis does not exist or is named twice.

    Example:
      >>> fans("example", (3, 3, 8, 16))
      (72, 144)
    """
    roles = [
        [axes] if isinstance(axes, int) else list(axes) for axes in (in_axis, out_axis, batch_axis)
    ]
    rank = len(shape)
    named = [axis for role in roles for axis in role]
    places = [axis % rank for axis in named]
    if any(not -rank <= axis < rank for axis in named) or len(set(places)) < len(places):
        raise ValueError(
            f"{caller} needs distinct axes of a kernel of rank {rank}, got "
            f"in_axis={in_axis}, out_axis={out_axis}, batch_axis={batch_axis}."
        )
    fan_in, fan_out = (math.prod(shape[axis] for axis in role) for role in roles[:2])
    window = math.prod(shape[axis] for axis in range(rank) if axis not in places)
    return window * fan_in, window * fan_out


def as_dtype(value: ArrayLike, dtype: np.dtype) -> Array:
    """Turn a hyper-parameter, traced or not, into an array of the given dtype.

    Args:
      value: A number, an array or a tracer.
      dtype: The target; a conversion from real to complex is allowed.

    Returns:
      The converted array.

    Example:
      >>> as_dtype(2, jnp.dtype("bfloat16")).dtype.name
      'bfloat16'
    """
    return jnp.asarray(value).astype(dtype)
