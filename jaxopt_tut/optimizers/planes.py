"""Flat sets to project onto: affine subspaces, hyperplanes, half-spaces."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.hyperparameters import cast, require_finite
from jaxopt_tut.optimizers.projecting import (
    Projection,
    coupled,
    on_vectors,
    require_finite_array,
    valid,
)
from jaxopt_tut.trees import require_inexact, require_same_structure
from jaxopt_tut.types import Number, PyTree, Scalar
from jaxopt_tut.vectors import dot, magnitude, matmul, norm, ravel


def affine(matrix: Float[Array, "rows dim"], offset: Float[Array, "rows"]) -> Projection:
    r"""Build the projection onto an affine subspace.

    $$P(x) = x - A^+ (A x - b) \in \{y : A y = b\}$$

    with the rows of $A$ and $b$ divided by the length of the row, which leaves the set as it is.
    Rows may depend on each other; if no point fulfils all equations, the set is where the sum of
    the squared distances to their hyperplanes is least. A row of zeros is left out if its offset
    is 0; else the set is empty. A pseudo-inverse at each call (compiled once, if constant).

    Args:
      matrix: $A$; its columns belong to the parameters end to end, complex ones as real parts
        and imaginary parts.
      offset: $b$.

    Returns:
      A function from trees to trees.

    Raises:
      TypeError: If `matrix` or `offset` is complex; from the projection, if a leaf is neither
        floating nor complex.
      ValueError: If the shapes of `matrix` and `offset` do not fit, or a static row is zero and its
        offset is not, or a static entry is not finite; from the projection, if there are not as
        many columns as parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> plane = affine(jnp.array([[1.0, 1.0]]), jnp.array([1.0]))
      >>> print(plane(jnp.array([3.0, 0.0])).round(3))
      [ 2. -1.]
    """
    if jnp.ndim(matrix) != 2 or jnp.shape(offset) != jnp.shape(matrix)[:1]:
        raise ValueError(
            "affine needs a matrix (rows, dim) and an offset (rows,), "
            f"got shapes {jnp.shape(matrix)} and {jnp.shape(offset)}."
        )
    if jnp.iscomplexobj(matrix) or jnp.iscomplexobj(offset):
        raise TypeError("affine needs a real matrix and offset, got complex ones.")
    require_finite_array("affine", "matrix", matrix)
    require_finite_array("affine", "offset", offset)
    if not isinstance(matrix, jax.Array) and not isinstance(offset, jax.Array):
        empty = ~np.any(np.asarray(matrix), axis=1) & (np.asarray(offset) != 0)
        if np.any(empty):
            raise ValueError(
                "affine needs an offset of 0 where a row of the matrix is 0, "
                f"got {np.asarray(offset)[empty][0]}."
            )

    def onto(x: Float[Array, "dim"]) -> Float[Array, "dim"]:
        if jnp.shape(matrix)[1] != x.size:
            raise ValueError(
                f"affine needs a column for each of {x.size} parameters, "
                f"got {jnp.shape(matrix)[1]} columns."
            )
        a, b = jnp.asarray(matrix, x.dtype), jnp.asarray(offset, x.dtype)
        unit = jax.vmap(magnitude)(a)
        a, b = a / unit[:, None], b / unit
        length = jax.vmap(norm)(a)
        is_zero = length == 0
        length = jnp.where(is_zero, 1, length)
        isvalid = jnp.all(jnp.where(is_zero, b == 0, True))
        a, b = a / length[:, None], b / length
        scale = magnitude(x, b)
        inverse, y, b = jnp.linalg.pinv(a), x / scale, b / scale
        for _ in range(2):  # the second takes away the rounding of the first
            y = y - matmul(inverse, matmul(a, y) - b)
        return valid(scale * y, isvalid)

    return on_vectors("affine", onto)


def hyperplane(normal: PyTree, offset: Number) -> Projection:
    r"""Build the projection onto a hyperplane.

    $$P(x) = x - \frac{\langle a, x \rangle - b}{\langle a, a \rangle}\, a$$

    Args:
      normal: $a \ne 0$, a tree like the parameters; a traced $a = 0$ gives all of space if $b = 0$
        and an empty set else.
      offset: $b$.

    Returns:
      A function from trees to trees.

    Raises:
      TypeError: If `offset` is no number; from the projection, if a leaf is neither floating nor
        complex, or a leaf of `normal` is complex where the parameters are real.
      ValueError: If a static `normal` is 0, or it or a static `offset` is not finite; from the
        projection, if the parameters differ from `normal` in a path or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> print(hyperplane(jnp.array([1.0, 1.0]), 1.0)(jnp.array([3.0, 0.0])))
      [ 2. -1.]
    """
    return _along("hyperplane", normal, offset, lambda gap: gap)


def half_space(normal: PyTree, offset: Number) -> Projection:
    r"""Build the projection onto a half-space.

    $$P(x) = x - \frac{\max(0, \langle a, x \rangle - b)}{\langle a, a \rangle}\, a
    \in \{y : \langle a, y \rangle \le b\}$$

    Args:
      normal: $a \ne 0$, a tree like the parameters; it points out of the set. A traced $a = 0$
        gives all of space if $b \ge 0$ and an empty set else.
      offset: $b$.

    Returns:
      A function from trees to trees.

    Raises:
      TypeError: As from `hyperplane`.
      ValueError: As from `hyperplane`.

    Example:
      >>> import jax.numpy as jnp
      >>> lower = half_space(jnp.array([1.0, 1.0]), 1.0)
      >>> print(lower(jnp.array([3.0, 0.0])), lower(jnp.array([-3.0, 0.0])))
      [ 2. -1.] [-3.  0.]
    """
    return _along("half_space", normal, offset, lambda gap: jnp.where(gap <= 0, 0, gap))


def _along(
    caller: str, normal: PyTree, offset: Number, positive: Callable[[Scalar], Scalar]
) -> Projection:
    require_finite(caller, offset=offset)
    leaves = jax.tree.leaves(normal)
    for leaf in leaves:
        require_finite_array(caller, "normal", leaf)
    if leaves and not any(isinstance(leaf, jax.Array) or np.any(leaf) for leaf in leaves):
        raise ValueError(f"{caller} needs a normal that is not 0, got {normal}.")

    def project(tree: PyTree) -> PyTree:
        require_inexact(tree, caller)
        require_same_structure(normal, tree, caller)
        x, unravel = ravel(tree)
        a = ravel(jax.tree.map(lambda a, x: _as_leaf(caller, a, x), normal, tree))[0]
        a = a.astype(x.dtype)
        unit = magnitude(a)
        a, b = a / unit, cast(offset, x.dtype) / unit
        scale, squared = magnitude(x), dot(a, a)
        divisor = jnp.where(squared == 0, 1, squared)
        y, b = x / scale, b / scale
        for _ in range(2):  # the second takes away the rounding of the first
            gap = positive(dot(a, y) - b)
            y = y - gap / divisor * a
        # where the normal is 0 nothing moves, and a gap remains if the set is empty
        return unravel(valid(scale * y, jnp.isfinite(x), (squared != 0) | (gap == 0)))

    return coupled(project)


def _as_leaf(caller: str, a: Any, x: Any) -> Array:
    dtype = jnp.result_type(x)
    if jnp.iscomplexobj(a) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{caller} needs a real normal for real parameters, got a complex one.")
    return jnp.asarray(a).astype(dtype)
