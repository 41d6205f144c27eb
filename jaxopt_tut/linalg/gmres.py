"""Generalized minimal residuals: systems that are not symmetric, by products with the matrix."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.linalg.solution import LinearSolution, Matvec, VectorLike, floating
from jaxopt_tut.types import Limit, Number, Scalar
from jaxopt_tut.vectors import dot, matmul, norm, safe_ratio


def gmres(
    matvec: Matvec, b: VectorLike, *, tol: Number, max_steps: Limit, restart: int = 30
) -> LinearSolution:
    r"""Solve a square system by the smallest residual in a growing space.

    $$x_k = \arg\min_{x \in \mathcal{K}_k} \lVert b - A x \rVert, \qquad
    \mathcal{K}_k = \mathrm{span}(b, A b, \dots, A^{k-1} b)$$

    from $x_0 = 0$, and anew from where it has come to after `restart` steps. One product a step and
    one to look at the true residual before each restart and at the end; memory for twice as many
    vectors as `restart`. For $A = I - J$ whose $J$ contracts by $\rho$ the residual falls by $\rho$
    a step or faster. It ends where a round of `restart` steps gains less than a thousandth: a
    system that is singular, or wants more vectors.

    The space is spanned by the residuals, and by the last image where the residual hardly fell;
    their images are kept orthonormal, so that the solution and its residual are known at each step.

    Args:
      matvec: Multiplies by $A$.
      b: The right-hand side.
      tol: Norm of the residual at which to stop, relative to that of `b`.
      max_steps: Products at most.
      restart: Steps between restarts.

    Returns:
      The solution; `is_definite` is always true, as nothing depends on it.

    Example:
      >>> import jax.numpy as jnp
      >>> a = jnp.array([[0.0, 2.0], [-1.0, 0.0]])
      >>> solution = gmres(lambda v: a @ v, jnp.array([4.0, 3.0]), tol=1e-6, max_steps=9)
      >>> print(solution.x.round(4), solution.num_products)
      [-3.  2.] 3

    References:
      Saad and Schultz (1986), GMRES. https://doi.org/10.1137/0907058
      Jiránek and Rozložník (2010), Adaptive version of Simpler GMRES, for the choice of vectors.
      https://doi.org/10.1007/s11075-009-9311-3
    """
    b = floating(b)
    size = norm(b)
    goal = jnp.asarray(tol, b.dtype) * size
    memory = max(min(restart, b.size), 1)
    # what is left of an image after the others are taken from it, where it depends on them
    rounding = 8 * jnp.asarray(jnp.finfo(b.dtype).eps, b.dtype)

    def advance(s: _State) -> _State:
        # a turn looks at the true residual, or goes on: the product is of the one or the other
        residual = s.residual
        # a residual that hardly falls is nearly in the span already, while the last image is not;
        # one that falls fast is the better of both
        takes_residual = (s.place == 0) | (s.norm <= _FALLS * s.before)
        towards = jnp.where(
            takes_residual, residual * safe_ratio(1.0, s.norm), s.images[s.place - 1]
        )
        product = matvec(jnp.where(s.looks, s.x, towards))
        # to go on: take the older images from the new one; twice is orthogonal to rounding
        image, direction = product, towards
        for _ in range(2):
            shares = matmul(s.images, image)
            image = image - matmul(shares, s.images)
            direction = direction - matmul(shares, s.directions)
        left = norm(image)
        is_new = ~s.looks & (left > rounding * norm(product))
        scale = safe_ratio(1.0, left, where=is_new)
        image, direction = image * scale, direction * scale
        length = dot(image, residual)
        # to look: begin anew from here, or end where the last round has gained nothing
        residual = jnp.where(s.looks, b - product, residual - length * image)
        size = norm(residual)
        gains = size < 0.999 * s.kept_norm
        is_kept = s.looks & (size < s.kept_norm)
        place = jnp.where(s.looks, 0, s.place + 1)
        put = lambda rows, row: jnp.where(s.looks, 0, rows.at[s.place].set(row))
        return _State(
            x=s.x + length * direction,
            residual=residual,
            directions=put(s.directions, direction),
            images=put(s.images, image),
            norm=size,
            before=s.norm,
            place=place,
            looks=~s.looks & (~is_new | (place == memory) | ~(size > goal / 2)),
            kept=jnp.where(is_kept, s.x, s.kept),
            kept_norm=jnp.where(is_kept, size, s.kept_norm),
            count=s.count + 1,
            done=s.looks & ~((size > goal) & gains) | ~jnp.isfinite(size),
        )

    zeros = jnp.zeros((memory, b.size), b.dtype)
    zero = jnp.zeros((), jnp.int32)
    first = _State(
        x=jnp.zeros_like(b),
        residual=b,
        directions=zeros,
        images=zeros,
        norm=size,
        before=size,
        place=zero,
        looks=jnp.zeros((), bool),
        kept=jnp.zeros_like(b),
        kept_norm=size,
        count=zero,
        done=~(size > 0) | ~jnp.isfinite(size),
    )
    limit = counts.as_limit(max_steps)
    last = control_flow.while_loop(lambda s: ~s.done & (s.count < limit), advance, first)
    # the last round has ended by a look, or the products have before
    is_unseen = ~last.done & (last.norm < last.kept_norm)
    x = jnp.where(is_unseen, last.x, last.kept)
    x = jnp.where(jnp.isfinite(size) & jnp.isfinite(last.norm), x, jnp.nan)
    size = jnp.where(is_unseen, last.norm, last.kept_norm)
    return LinearSolution(x, size, last.count, jnp.ones((), bool))


_FALLS = 0.9
"""The share of the residual before, up to which the next vector is the residual itself."""


class _State(NamedTuple):
    x: Float[Array, "dim"]
    residual: Float[Array, "dim"]
    directions: Float[Array, "memory dim"]
    images: Float[Array, "memory dim"]  # of the directions: orthonormal
    norm: Scalar  # of the residual
    before: Scalar  # the same a step earlier
    place: Int[Array, ""]  # vectors there are
    looks: Bool[Array, ""]  # whether the next turn looks at the true residual
    kept: Float[Array, "dim"]  # the best point looked at
    kept_norm: Scalar
    count: Int[Array, ""]
    done: Bool[Array, ""]
