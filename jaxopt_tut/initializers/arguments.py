"""What every initializer asks of its arguments, and how it refuses the rest."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxopt_tut.types import Shape

Axes = int | Sequence[int]
"""One axis of a kernel, or several that count as one."""


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
