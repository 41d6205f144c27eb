"""What an iterative solve takes and returns."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Inexact, Int, Num
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.types import Scalar

Matvec = TypeAliasType("Matvec", Callable[[Array], Array])
"""The product of a matrix and a vector, as a function of the vector."""


VectorLike = TypeAliasType("VectorLike", Num[Array | np.ndarray, "dim"])
"""A vector of numbers; integers count as floating ones."""

MatrixLike = TypeAliasType("MatrixLike", Num[Array | np.ndarray, "dim dim"])
"""A square matrix, likewise."""


@shown
class LinearSolution(NamedTuple):
    """A solution of `matvec(x) = b`, and how it was come by.

    Attributes:
      x: The solution, as good as it is.
      residual_norm: Norm of `b - matvec(x)`, as the recurrence carried it.
      num_products: Products with the matrix.
      is_definite: False if a direction of no or negative curvature was met.
    """

    x: Float[Array, "dim"]
    residual_norm: Scalar
    num_products: Int[Array, ""]
    is_definite: Bool[Array, ""]


def floating(array: ArrayLike) -> Inexact[Array, "..."]:
    """Return an array whose precision is one of real or complex numbers: integers are numbers."""
    array = jnp.asarray(array if isinstance(array, jax.Array) else np.asarray(array))
    if jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    return array.astype(jnp.result_type(float))
