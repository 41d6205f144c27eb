"""Sets to project onto, as callables on trees.

A projection returns the nearest point of its set in the Euclidean distance over all leaves
together, at any scale: lengths are divided by a power of two before they are squared. Where
`optax.projections` has the set, values are the same; these are written so that their derivatives
are right at 0 and on traced radii. The affine subspace is not in optax.

An empty set is refused where its numbers are static (Python, NumPy); where they are JAX arrays,
which may be traced, the result is not a number. Neither is it where the parameters are not finite;
a box loses only the coordinates that are not numbers, and sends infinities to its bounds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_tut.hyperparameters import (
    cast,
    require_finite,
    require_nonnegative,
    require_positive,
)
from jaxopt_tut.optimizers.bounds import is_number, require_order, spread_bounds
from jaxopt_tut.optimizers.norms import L1, L2, LInf, Norm, modulus
from jaxopt_tut.optimizers.planes import affine, half_space, hyperplane
from jaxopt_tut.optimizers.projecting import Projection, coupled, on_vectors, require_real, valid
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, PyTree, Scalar
from jaxopt_tut.vectors import Vector, magnitude, ravel
from jaxopt_tut.vectors import norm as euclidean

__all__ = ["affine", "ball", "box", "half_space", "hyperplane", "simplex"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


_L2 = L2()


def ball(radius: Number = 1.0, norm: Norm = _L2) -> Projection:
    r"""Build the projection onto a ball around 0.

    $$P(x) = \arg\min_{\lVert y \rVert \le r} \lVert y - x \rVert_2$$

    Args:
      radius: $r \ge 0$, in units of the parameters; may be traced. At 0 the set is a point.
      norm: `norms.L1()`, `norms.L2()` or `norms.LInf()`, over all leaves together. Of complex
        leaves the moduli count, and phases stay.

    Returns:
      A function from trees to trees.

    Raises:
      TypeError: If `radius` is no number; from the projection, if a leaf is neither floating nor
        complex.
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
        return on_vectors("ball", lambda x: _onto_l2_ball(x, cast(radius, x.dtype)))
    if isinstance(norm, LInf):
        return lambda tree: _shrink(tree, radius, _onto_linf_ball)
    if isinstance(norm, L1):
        return coupled(lambda tree: _shrink(tree, radius, _onto_l1_ball))
    raise ValueError(f"ball needs one of the norms L1(), L2(), LInf(), got norm={norm!r}.")


def _onto_l2_ball(x: Float[Array, "dim"], radius: Float[Array, ""]) -> Float[Array, "dim"]:
    unit = magnitude(x)
    length = euclidean(x / unit)
    outside = unit * length > radius
    direction = x / unit / jnp.where(outside, length, 1)
    return valid(jnp.where(outside, radius * direction, x), jnp.isfinite(x), radius >= 0)


_Onto = Callable[[Vector, Scalar], tuple[Vector, Bool[Array, "dim"]]]


def _shrink(tree: PyTree, radius: Number, onto: _Onto) -> PyTree:
    """Shrink moduli and keep signs and phases; `onto` says which entries stay as they are."""
    require_inexact(tree, "ball")
    sizes = jax.tree.map(modulus, tree)
    vector, unravel = ravel(sizes)
    if not vector.size:
        return tree
    r = cast(radius, vector.dtype)
    target, stays = onto(vector, r)
    is_valid = jnp.all(jnp.isfinite(vector)) & (r >= 0)

    def replace(x: Array, size: Array, target: Array, stays: Array) -> Array:
        is_complex = jnp.iscomplexobj(x)
        sign = x / jnp.where(size == 0, 1, size).astype(x.dtype) if is_complex else jnp.sign(x)
        return valid(jnp.where(stays > 0, x, sign * target.astype(x.dtype)), is_valid)

    return jax.tree.map(replace, tree, sizes, unravel(target), unravel(stays.astype(vector.dtype)))


def _onto_linf_ball(size: Vector, radius: Scalar) -> tuple[Vector, Bool[Array, "dim"]]:
    return jnp.broadcast_to(radius, size.shape), size <= radius


def _onto_l1_ball(size: Vector, radius: Scalar) -> tuple[Vector, Bool[Array, "dim"]]:
    # the set's faces are simplices; inside, the derivative of that projection must not leak
    inside = jnp.sum(size) <= radius
    target = _onto_simplex(jnp.where(inside, 1, size), jnp.where(inside, 1, radius))
    return target, jnp.broadcast_to(inside, size.shape)


def simplex(total: Number = 1.0) -> Projection:
    r"""Build the projection onto a simplex.

    $$P(x) = \arg\min \{ \lVert y - x \rVert_2 : y \ge 0,\ \textstyle\sum_i y_i = s \}$$

    A coordinate of $-\infty$ becomes 0.

    Args:
      total: $s > 0$; may be traced, and may then be 0, where the set is a point.

    Returns:
      A function from trees to trees; the sum runs over all leaves together.

    Raises:
      TypeError: If `total` is no number; from the projection, if a leaf is not floating.
      ValueError: If a static `total` is not positive and finite.

    Example:
      >>> import jax.numpy as jnp
      >>> print(simplex()(jnp.array([0.5, 1.0, -3.0])))
      [0.25 0.75 0.  ]

    References:
      Duchi et al. (2008), figure 1. https://doi.org/10.1145/1390156.1390191
    """
    require_finite("simplex", total=total)
    require_positive("simplex", total=total)

    def onto(x: Float[Array, "dim"]) -> Float[Array, "dim"]:
        s = cast(total, x.dtype)
        return valid(_onto_simplex(x, s), (x < jnp.inf) & jnp.any(x > -jnp.inf), s >= 0)

    return on_vectors("simplex", onto, is_real=True)


def _onto_simplex(x: Float[Array, "dim"], total: Float[Array, ""]) -> Float[Array, "dim"]:
    """Subtract what leaves the total, from those that stay positive."""
    # from the largest down: no digit of the total is lost beside large numbers
    x = x - jax.lax.stop_gradient(jnp.max(x))
    reaches = (x > -total) | (x == 0)  # what is lower becomes 0 in any case
    below = jax.lax.stop_gradient(jnp.where(reaches, x, -total))
    ordered = jnp.sort(below, descending=True)
    counts = jnp.arange(1, x.size + 1, dtype=x.dtype)
    is_kept = counts * ordered - jnp.cumsum(ordered) > -jax.lax.stop_gradient(total)
    lowest = jnp.min(ordered, initial=0, where=is_kept)
    support = reaches & (x >= lowest)
    level = (jnp.sum(x, where=support) - total) / jnp.sum(support, dtype=x.dtype)
    return jnp.where(support, jnp.maximum(x - level, 0), 0)


def box(lower: PyTree, upper: PyTree) -> Projection:
    r"""Build the projection onto a box.

    $$P(x)_i = \min(\max(x_i, l_i), u_i)$$

    Args:
      lower: $l$: a number, or a tree of arrays that fit the parameters; in it a number stands for
        all entries of its leaf. May be infinite.
      upper: $u \ge l$, likewise.

    Returns:
      A function from trees to trees.

    Raises:
      TypeError: From the projection, if a leaf is not floating.
      ValueError: If $l > u$ somewhere and both are static; from the projection too, or if a bound
        differs from the parameters in a path or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> print(box(-1.0, 1.0)(jnp.array([3.0, -0.5])))
      [ 1.  -0.5]
    """
    if is_number(lower) and is_number(upper):
        require_order("box", "", lower, upper)

    def project(tree: PyTree) -> PyTree:
        require_real(tree, "box")
        low, high = spread_bounds("box", (lower, upper), tree)
        ordered = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.all(a <= b), low, high))
        isvalid = jnp.all(jnp.stack([jnp.ones((), bool), *ordered]))
        clip = lambda x, a, b: valid(jnp.clip(x, a, b), isvalid)
        return jax.tree.map(clip, tree, low, high)

    return project
