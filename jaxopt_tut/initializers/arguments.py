"""What every initializer asks of its arguments, and how it refuses the rest."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from typing_extensions import TypeAliasType

from jaxopt_tut.types import DTypeLike, Shape

Axes = TypeAliasType("Axes", int | Sequence[int])
"""One axis of a kernel, or several that count as one."""


def require_inexact_dtype(caller: str, dtype: DTypeLike) -> np.dtype:
    """Refuse a dtype whose numbers have no derivative."""
    if dtype is not None:  # numpy reads None as float64
        dtype = jnp.dtype(dtype)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(f"{caller} needs a floating or complex dtype, got {dtype}.")
    return dtype


def drawing_dtype(dtype: np.dtype) -> np.dtype:
    """Return the precision to draw in: at least single, so that half types keep their tails."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else dtype


def require_kernel(caller: str, shape: Shape, *, min_rank: int = 2) -> Shape:
    """Refuse a shape that is too short for a kernel, or not a shape."""
    shape = tuple(shape)
    if len(shape) < min_rank:
        raise ValueError(f"{caller} needs a shape of rank >= {min_rank}, got shape {shape}.")
    if any(size < 0 for size in shape):
        raise ValueError(f"{caller} needs a shape without negative sizes, got shape {shape}.")
    return shape


def fans(
    caller: str, shape: Shape, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> tuple[int, int]:
    r"""Count the inputs and outputs that one unit of a kernel touches, $n = r \prod_a s_a$.

    The receptive field $r$ is what is left of the shape: the window of a convolution (HWIO).
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
