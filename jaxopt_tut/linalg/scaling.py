"""Scaling that loses nothing, so that squares neither over- nor underflow."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def magnitude(*arrays: Float[Array, "..."]) -> Float[Array, ""]:
    r"""Return the power of two below the largest entry: dividing by it rounds nothing.

    $$2^{\lfloor \log_2 \max_i |x_i| \rfloor}$$

    Args:
      *arrays: One or more arrays of one floating dtype.

    Returns:
      The power, within three quarters of the exponents of the dtype; a constant for derivatives.
      1 if the largest entry is 0 or not finite, or if there is none.

    Example:
      >>> import jax.numpy as jnp
      >>> print(magnitude(jnp.array([3.0, -5.0])), magnitude(jnp.array([0.3])))
      4.0 0.25
    """
    sizes = [jnp.max(jnp.abs(x), initial=0) for x in arrays]
    size = jax.lax.stop_gradient(functools.reduce(jnp.maximum, sizes))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    power = size / (2 * jnp.frexp(size)[0])
    # its reciprocal, and products of a few of it with what it scales, must not be subnormal
    limit = 2.0 ** (-jnp.finfo(size.dtype).minexp * 3 // 4)
    return jnp.clip(power, 1 / limit, limit)
