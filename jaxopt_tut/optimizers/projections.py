"""Sets to project onto, as callables on trees, and projected descent.

A projection returns the nearest point of its set in the Euclidean distance over all leaves
together. Where `optax.projections` has the set, values are the same; the simplex, and with it the
L1 ball, is optax's, the others are written so that their derivatives are right at 0 and on traced
radii. The affine subspace is not in optax.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxopt_tut.optimizers.hyperparameters import cast, require_nonnegative
from jaxopt_tut.optimizers.norms import L1, L2, LInf, Norm
from jaxopt_tut.optimizers.vectors import dot, ravel
from jaxopt_tut.trees import require_inexact, require_same_structure
from jaxopt_tut.types import PyTree

__all__ = ["affine", "ball", "box", "half_space", "hyperplane", "simplex"]

Projection = Callable[[PyTree], PyTree]


_L2 = L2()


def ball(radius: ArrayLike = 1.0, norm: Norm = _L2) -> Projection:
    r"""Build the projection onto a ball around 0.

    $$P(x) = \arg\min_{\lVert y \rVert \le r} \lVert y - x \rVert_2$$

    Args:
      radius: $r \ge 0$, in units of the parameters; may be traced.
      norm: `norms.L1()`, `norms.L2()` or `norms.LInf()`, over all leaves together.

    Returns:
      A function from trees to trees.

    Raises:
      TypeError: If `radius` is no number.
      ValueError: If a static `radius` is negative or not finite, or there is no projection for
        `norm`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(ball(1.0)(jnp.array([3.0, 4.0])).round(3))
      [0.6 0.8]

    References:
      Duchi et al. (2008), figure 1, for L1. https://doi.org/10.1145/1390156.1390191
    """
    require_nonnegative("ball", radius=radius)
    if isinstance(norm, L2):
        return _on_vectors(lambda x: _shrink(x, cast(radius, x.dtype)))
    if isinstance(norm, LInf):
        return _on_vectors(lambda x: jnp.clip(x, -cast(radius, x.dtype), cast(radius, x.dtype)))
    if isinstance(norm, L1):
        return _on_vectors(lambda x: _onto_l1_ball(x, cast(radius, x.dtype)))
    raise ValueError(f"ball needs one of the norms L1(), L2(), LInf(), got norm={norm!r}.")


def _shrink(x: Float[Array, "dim"], radius: Float[Array, ""]) -> Float[Array, "dim"]:
    norm = L2().norm(x)
    outside = norm > radius
    return jnp.where(outside, radius / jnp.where(outside, norm, 1), 1) * x


def _onto_l1_ball(x: Float[Array, "dim"], radius: Float[Array, ""]) -> Float[Array, "dim"]:
    size = jnp.abs(x)
    outside = jnp.sum(size) > radius
    # the set's faces are simplices; inside, the derivative of that projection must not leak
    safe = jnp.where(outside, size, 1)
    projected = _onto_simplex(safe, jnp.where(radius > 0, radius, 1))
    return jnp.where(outside, jnp.sign(x) * jnp.where(radius > 0, projected, 0), x)


def simplex(total: ArrayLike = 1.0) -> Projection:
    r"""Build the projection onto a simplex.

    $$P(x) = \arg\min \{ \lVert y - x \rVert_2 : y \ge 0,\ \textstyle\sum_i y_i = s \}$$

    Args:
      total: $s > 0$; may be traced.

    Returns:
      A function from trees to trees; the sum runs over all leaves together.

    Raises:
      TypeError: If `total` is no number.
      ValueError: If a static `total` is not positive and finite.

    Example:
      >>> import jax.numpy as jnp
      >>> print(simplex()(jnp.array([0.5, 1.0, -3.0])))
      [0.25 0.75 0.  ]

    References:
      Duchi et al. (2008), figure 1. https://doi.org/10.1145/1390156.1390191
    """
    require_nonnegative("simplex", total=total)
    if not isinstance(total, jax.Array) and total == 0:
        raise ValueError("simplex needs total > 0, got total=0.")
    return _on_vectors(lambda x: _onto_simplex(x, cast(total, x.dtype)))


def _onto_simplex(x: Float[Array, "dim"], total: Float[Array, ""]) -> Float[Array, "dim"]:
    with jax.numpy_dtype_promotion("standard"):  # optax divides floats by counts
        return optax.projections.projection_simplex(x, total)


def box(lower: PyTree, upper: PyTree) -> Projection:
    r"""Build the projection onto a box.

    $$P(x)_i = \min(\max(x_i, l_i), u_i)$$

    Args:
      lower: $l$: a number, or a tree of arrays that fit the parameters.
      upper: $u \ge l$, likewise.

    Returns:
      A function from trees to trees.

    Raises:
      ValueError: From the projection, if a bound differs from the parameters in a path or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> print(box(-1.0, 1.0)(jnp.array([3.0, -0.5])))
      [ 1.  -0.5]
    """

    def project(tree: PyTree) -> PyTree:
        require_inexact(tree, "box")
        clip = lambda x, low, high: jnp.clip(x, _like(low, x), _like(high, x))
        return jax.tree.map(clip, tree, _spread(lower, tree), _spread(upper, tree))

    return project


def affine(matrix: Float[Array, "rows dim"], offset: Float[Array, "rows"]) -> Projection:
    r"""Build the projection onto an affine subspace.

    $$P(x) = x - A^+ (A x - b) \in \{y : A y = b\}$$

    Rows of $A$ may depend on each other; if no point fulfils all equations, the set is that of
    least squares. A pseudo-inverse at each call (compiled once, if constant).

    Args:
      matrix: $A$; its columns belong to the parameters end to end, complex ones as real parts
        and imaginary parts.
      offset: $b$.

    Returns:
      A function from trees to trees.

    Raises:
      ValueError: If the shapes of `matrix` and `offset` do not fit; from the projection, if there
        are not as many columns as parameters.

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

    def onto(x: Float[Array, "dim"]) -> Float[Array, "dim"]:
        if jnp.shape(matrix)[1] != x.size:
            raise ValueError(
                f"affine needs a column for each of {x.size} parameters, "
                f"got {jnp.shape(matrix)[1]} columns."
            )
        a, b = jnp.asarray(matrix, x.dtype), jnp.asarray(offset, x.dtype)
        return x - dot(jnp.linalg.pinv(a), dot(a, x) - b)

    return _on_vectors(onto)


def hyperplane(normal: PyTree, offset: ArrayLike) -> Projection:
    r"""Build the projection onto a hyperplane.

    $$P(x) = x - \frac{\langle a, x \rangle - b}{\langle a, a \rangle}\, a$$

    Args:
      normal: $a \ne 0$, a tree like the parameters.
      offset: $b$.

    Returns:
      A function from trees to trees.

    Raises:
      ValueError: From the projection, if the parameters differ from `normal` in a path or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> print(hyperplane(jnp.array([1.0, 1.0]), 1.0)(jnp.array([3.0, 0.0])))
      [ 2. -1.]
    """
    return _along(normal, "hyperplane", lambda x, a: _excess(x, a, offset) * a)


def half_space(normal: PyTree, offset: ArrayLike) -> Projection:
    r"""Build the projection onto a half-space.

    $$P(x) = x - \frac{\max(0, \langle a, x \rangle - b)}{\langle a, a \rangle}\, a
    \in \{y : \langle a, y \rangle \le b\}$$

    Args:
      normal: $a \ne 0$, a tree like the parameters; it points out of the set.
      offset: $b$.

    Returns:
      A function from trees to trees.

    Raises:
      ValueError: From the projection, if the parameters differ from `normal` in a path or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> lower = half_space(jnp.array([1.0, 1.0]), 1.0)
      >>> print(lower(jnp.array([3.0, 0.0])), lower(jnp.array([-3.0, 0.0])))
      [ 2. -1.] [-3.  0.]
    """
    return _along(normal, "half_space", lambda x, a: jnp.maximum(0, _excess(x, a, offset)) * a)


def _excess(x: Float[Array, "dim"], a: Float[Array, "dim"], offset) -> Float[Array, ""]:
    return (dot(a, x) - cast(offset, x.dtype)) / dot(a, a)


def _along(normal: PyTree, caller: str, correction) -> Projection:
    def project(tree: PyTree) -> PyTree:
        require_same_structure(normal, tree, caller)
        x, unravel = ravel(tree)
        return unravel(x - correction(x, ravel(normal)[0].astype(x.dtype)))

    return project


def _on_vectors(onto: Callable[[Float[Array, "dim"]], Float[Array, "dim"]]) -> Projection:
    def project(tree: PyTree) -> PyTree:
        vector, unravel = ravel(tree)
        return unravel(onto(vector)) if vector.size else tree

    return project


def _like(bound: Any, x: Any) -> Array:
    return jnp.asarray(bound, jnp.result_type(x))


def _spread(bound: PyTree, tree: PyTree) -> PyTree:
    """Repeat a number for each leaf; a tree must fit."""
    if isinstance(bound, int | float | np.number | jax.Array) and jnp.ndim(bound) == 0:
        return jax.tree.map(lambda _: bound, tree)
    require_same_structure(tree, bound, "box")
    return bound
