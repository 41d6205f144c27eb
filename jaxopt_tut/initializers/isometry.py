"""Initializers that keep the length of every input, not only its variance on average."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from jaxopt_tut.hyperparameters import cast, require_finite
from jaxopt_tut.initializers.arguments import (
    drawing_dtype,
    require_inexact_dtype,
    require_kernel,
)
from jaxopt_tut.types import DTypeLike, Initializer, Number, PRNGKey, Shape


def orthogonal(scale: Number = 1.0) -> Initializer:
    r"""Build an initializer that draws a (semi-)orthogonal matrix uniformly.

    $$W^\top W = s^2 I \quad (\text{rows} \ge \text{columns}), \qquad
      W W^\top = s^2 I \quad (\text{rows} \le \text{columns}).$$

    All singular values are equal, so a deep linear network keeps the length of each vector both
    ways (dynamical isometry), and tanh networks of thousands of layers become trainable at the
    point that `critical` gives. A kernel of higher rank is flattened to (all but the last, last),
    which is isometric for its patches, not for the convolution: see `delta_orthogonal`.
    Costs a QR factorisation, cubic in the shorter side.

    Args:
      scale: The factor $s$ on the singular values; may be traced.

    Returns:
      An initializer for kernels of rank >= 2.

    Raises:
      ValueError: If `scale` is not finite or has axes; when drawing, if the rank is
        below 2 or an axis is empty.
      TypeError: If `scale` is no real number; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = orthogonal(2.0)(jax.random.key(0), (3, 5))
      >>> bool(jnp.allclose(w @ w.T, 4 * jnp.eye(3), atol=1e-5))
      True

    References:
      Saxe, McClelland, Ganguli (2014), section 3. https://arxiv.org/abs/1312.6120
      Mezzadri (2007), eq. 5.13, for the phases that make QR uniform.
      https://arxiv.org/abs/math-ph/0609050
    """
    require_finite("orthogonal", scale=scale)

    def init(key: PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> Array:
        dtype = require_inexact_dtype("orthogonal", dtype)
        shape = require_kernel("orthogonal", shape)
        if math.prod(shape) == 0:
            raise ValueError(f"orthogonal needs a shape without empty axes, got shape {shape}.")
        matrix = _haar(key, math.prod(shape[:-1]), shape[-1], drawing_dtype(dtype))
        return (matrix * cast(scale, matrix.dtype)).reshape(shape).astype(dtype)

    return init


def delta_orthogonal(scale: Number = 1.0) -> Initializer:
    r"""Build an initializer for convolutions that keep the length of every image.

    $$K_{h w i o} = s\, \delta_{h, h_0}\, \delta_{w, w_0}\, Q_{i o}, \qquad Q Q^\top = I.$$

    Only the centre tap is non-zero, so that the convolution (stride 1, padding `"SAME"`) maps each
    pixel's channels by one orthogonal matrix and $\|K * x\| = |s| \|x\|$. With `critical` it trains
    convolutional networks of ten thousand layers. The channels must not shrink.

    Args:
      scale: The factor $s$; may be traced.

    Returns:
      An initializer for kernels (..., in, out) of rank >= 3.

    Raises:
      ValueError: If `scale` is not finite or has axes; when drawing, if the rank is
        below 3, an axis is empty, or there are fewer output than input channels.
      TypeError: If `scale` is no real number; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> kernel = delta_orthogonal()(jax.random.key(0), (3, 3, 4, 8))
      >>> x = jax.random.normal(jax.random.key(1), (1, 16, 16, 4))
      >>> y = jax.lax.conv_general_dilated(
      ...     x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
      ... )
      >>> round(float(jnp.linalg.norm(y) / jnp.linalg.norm(x)), 4)
      1.0

    References:
      Xiao, Bahri, Sohl-Dickstein, Schoenholz, Pennington (2018), algorithm 1.
      https://arxiv.org/abs/1806.05393
    """
    require_finite("delta_orthogonal", scale=scale)

    def init(key: PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> Array:
        dtype = require_inexact_dtype("delta_orthogonal", dtype)
        shape = require_kernel("delta_orthogonal", shape, min_rank=3)
        *window, num_in, num_out = shape
        if math.prod(shape) == 0:
            raise ValueError(
                f"delta_orthogonal needs a shape without empty axes, got shape {shape}."
            )
        if num_in > num_out:
            raise ValueError(
                "delta_orthogonal needs at least as many output as input channels, "
                f"got {num_in} -> {num_out} for shape {shape}."
            )
        matrix = _haar(key, num_in, num_out, drawing_dtype(dtype))
        matrix = (matrix * cast(scale, matrix.dtype)).astype(dtype)
        # "SAME" pads an even window by one less on the left, which puts its centre there.
        centre = tuple((size - 1) // 2 for size in window)
        return jnp.zeros(shape, dtype).at[centre].set(matrix)

    return init


def _haar(
    key: PRNGKey, num_rows: int, num_columns: int, dtype: np.dtype
) -> Inexact[Array, "rows columns"]:
    """Draw the orthonormal factor of a normal matrix, with the phases QR leaves open."""
    tall = (max(num_rows, num_columns), min(num_rows, num_columns))
    q, r = jnp.linalg.qr(jax.random.normal(key, tall, dtype))
    diagonal = jnp.diagonal(r)
    size = jnp.abs(diagonal)
    safe = jnp.where(size > 0, size, 1).astype(dtype)
    phase = jnp.where(size > 0, diagonal / safe, 1)
    q = q * phase[None, :]
    return q if num_rows >= num_columns else q.T
