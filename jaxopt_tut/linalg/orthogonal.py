"""Directions orthogonal to a basis, however little rounding leaves of them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.types import Scalar
from jaxopt_tut.vectors import matmul


def next_direction(
    vector: Float[Array, "n"], basis: Float[Array, "k n"], fresh: Float[Array, "n"], scale: Scalar
) -> tuple[Float[Array, "n"], Scalar]:
    """Make a vector orthogonal to a basis, or a fresh one if rounding is all that is left of it."""
    vector = orthogonal(vector, basis)
    size = jnp.linalg.norm(vector)
    floor = jnp.finfo(vector.dtype).eps * jnp.sqrt(1.0 * vector.size).astype(size.dtype) * scale
    is_lost = size <= floor
    other = orthogonal(fresh, basis)
    other = other / jnp.linalg.norm(other)
    direction = jnp.where(is_lost, other, vector / jnp.where(is_lost, 1, size))
    return direction, jnp.where(is_lost, 0, size)


def orthogonal(vector: Float[Array, "n"], basis: Float[Array, "k n"]) -> Float[Array, "n"]:
    """Take from a vector its part within the span of orthonormal rows; rows of zeros take none."""
    # Twice is enough: what the first round leaves is rounding of what it took away.
    for _ in range(2):
        vector = vector - matmul(matmul(basis, vector), basis)
    return vector
