"""Parameter trees as real vectors: what solvers with matrices and inner products work on."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact
from typing_extensions import TypeAliasType

from jaxopt_tut.types import DTypeLike, Number, PyTree, Shape

__all__ = [
    "Vector",
    "common_dtype",
    "dot",
    "has_moved",
    "magnitude",
    "matmul",
    "norm",
    "ravel",
    "safe_ratio",
    "safe_root",
]


Vector = TypeAliasType("Vector", Float[Array, "dim"])
"""A real vector."""


def ravel(tree: PyTree) -> tuple[Vector, Callable[[Vector], PyTree]]:
    r"""Lay the leaves of a tree end to end, complex ones as real parts and imaginary parts.

    With this convention $\mathrm{Re}\langle a, b\rangle$ of two trees is the dot product of their
    vectors, and steepest ascent directions stay what they are. Unlike
    `jax.flatten_util.ravel_pytree` it mixes dtypes also where promotion is strict, and never
    computes in less than float32.

    Args:
      tree: A tree of floating and complex leaves; there may be none.

    Returns:
      The vector, in the widest precision of the leaves and at least float32, and the function
      that turns such a vector into a tree with the shapes and dtypes of `tree`.

    Example:
      >>> import jax.numpy as jnp
      >>> vector, unravel = ravel({"a": jnp.float32(1.0), "b": jnp.array([2.0 + 3.0j])})
      >>> print(vector)
      [1. 2. 3.]
      >>> print(unravel(2 * vector)["b"])
      [4.+6.j]
    """
    leaves, structure = jax.tree.flatten(tree)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    dtype = common_dtype(leaves)
    parts = [_to_real(leaf).astype(dtype) for leaf in leaves]
    vector = parts[0] if len(parts) == 1 else jnp.concatenate([jnp.zeros(0, dtype), *parts])
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]

    def unravel(vector: Float[Array, "dim"]) -> PyTree:
        leaves, start = [], 0
        for shape, dtype in shapes:
            size = math.prod(shape) * (2 if jnp.issubdtype(dtype, jnp.complexfloating) else 1)
            leaves.append(_from_real(vector[start : start + size], shape, dtype))
            start += size
        return jax.tree.unflatten(structure, leaves)

    return vector, unravel


def common_dtype(leaves: list[Any]) -> DTypeLike:
    """Return the precision of the vector of some leaves.

    Args:
      leaves: Floating and complex arrays or numbers.

    Returns:
      The widest precision of them, and at least float32.

    Example:
      >>> common_dtype([jnp.bfloat16(1), jnp.complex64(1)])
      dtype('float32')
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(
            jnp.float32, *(jnp.finfo(jnp.result_type(leaf)).dtype for leaf in leaves)
        )


def _to_real(leaf: Array) -> Array:
    if jnp.iscomplexobj(leaf):
        return jnp.concatenate([leaf.real.ravel(), leaf.imag.ravel()])
    return leaf.ravel()


def _from_real(part: Array, shape: Shape, dtype: DTypeLike) -> Array:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        real, imaginary = jnp.split(part.astype(jnp.finfo(dtype).dtype), 2)
        return jax.lax.complex(real, imaginary).reshape(shape)
    return part.astype(dtype).reshape(shape)


def dot(a: Float[Array, "dim"], b: Float[Array, "dim"]) -> Float[Array, ""]:
    """Return the inner product in full precision (accelerators round products by default).

    Args:
      a: A vector.
      b: Another.

    Returns:
      Their inner product.

    Example:
      >>> import jax.numpy as jnp
      >>> print(dot(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])))
      11.0
    """
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def matmul(a: Inexact[Array, "..."], b: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    """Return the product of matrices, or of matrices and vectors, in full precision.

    Args:
      a: A vector, a matrix, or a stack of them.
      b: Another.

    Returns:
      Their product, as `jnp.matmul` has it.

    Example:
      >>> print(matmul(jnp.array([[1.0, 2.0], [0.0, 1.0]]), jnp.array([3.0, 4.0])))
      [11.  4.]
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


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


def safe_root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Return the square root, with derivative 0 where it is 0.

    $$\sqrt x, \qquad \frac{d}{dx} \sqrt x := 0 \text{ at } 0$$

    Args:
      x: Numbers; of negative ones the root is NaN, as that of NaN.

    Returns:
      Their roots.

    Example:
      >>> print(safe_root(jnp.array(4.0)), jax.grad(safe_root)(0.0))
      2.0 0.0
    """
    is_zero = x == 0  # its root, and what the root there is multiplied by, never meets infinity
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, x)))


def safe_ratio(
    a: Number,
    b: Inexact[Array, "..."],
    *,
    where: Bool[Array, "..."] | None = None,
    otherwise: Number = 0.0,
) -> Inexact[Array, "..."]:
    r"""Return the ratio where there is one, and its derivative there.

    $$a / b \text{ where } b \ne 0, \text{ else a constant}$$

    Args:
      a: Numerators.
      b: Denominators.
      where: Where to divide, if not wherever $b \ne 0$.
      otherwise: What stands for the ratio elsewhere.

    Returns:
      The ratios.

    Example:
      >>> print(safe_ratio(jnp.array([6.0, 1.0]), jnp.array([3.0, 0.0])))
      [2. 0.]
      >>> print(jax.grad(lambda b: safe_ratio(b, b))(0.0))
      0.0
    """
    where = b != 0 if where is None else where
    return jnp.where(where, a / jnp.where(where, b, 1), otherwise)


def norm(a: Float[Array, "dim"]) -> Float[Array, ""]:
    """Return the length of a vector, with derivative 0 where it is 0; squares don't overflow.

    Args:
      a: A vector.

    Returns:
      Its Euclidean norm.

    Example:
      >>> import jax.numpy as jnp
      >>> print(norm(jnp.array([3.0, 4.0])), jax.grad(norm)(jnp.zeros(2)))
      5.0 [0. 0.]
      >>> print(norm(jnp.array([3e38])) > 1e38)
      True
    """
    unit = magnitude(a)
    squared = dot(a / unit, a / unit)
    return unit * safe_root(squared)


def has_moved(new: Float[Array, "dim"], old: Float[Array, "dim"]) -> Bool[Array, ""]:
    r"""Tell whether a point is another one, beyond rounding.

    $$|a_i - b_i| > 4 \epsilon\, |b_i| \quad \text{for some } i$$

    Args:
      new: A point $a$.
      old: Where it came from, $b$.

    Returns:
      Whether any coordinate differs by more than a few units of its last digit.

    Example:
      >>> import jax.numpy as jnp
      >>> old = jnp.array([1.0, 100.0])
      >>> print(has_moved(old.at[0].add(1e-6), old), has_moved(old.at[1].add(1e-5), old))
      True False
    """
    eps = jnp.finfo(old.dtype).eps
    return jnp.any(jnp.abs(new - old) > 4 * eps * jnp.abs(old))
