"""The exact minimum of a quadratic within a ball."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.linalg.solution import MatrixLike, VectorLike, floating
from jaxopt_tut.types import Number, Scalar
from jaxopt_tut.vectors import matmul, safe_ratio

_MAX_TRIALS = 50


@shown
class BallMinimum(NamedTuple):
    """The outcome of `ball_minimum`."""

    step: Float[Array, "dim"]
    decrease: Scalar  # of the quadratic, 0 or more
    on_boundary: Bool[Array, ""]


@jax.custom_jvp
def ball_minimum(
    hessian: MatrixLike,
    gradient: VectorLike,
    radius: Number,
) -> BallMinimum:
    r"""Minimise a quadratic within a ball, whatever its curvature.

    $$\min_p\ g^T p + \tfrac12 p^T H p, \quad \lVert p \rVert \le \Delta: \qquad
    (H + \lambda I)\, p = -g, \quad \lambda \ge \max(0, -\lambda_1), \quad
    \lambda\, (\Delta - \lVert p \rVert) = 0$$

    $\lambda_1$ is the lowest eigenvalue. With the eigenvectors at hand every trial of $\lambda$
    takes $n$ operations. Where $g$ has no part along the lowest, negative curvature (the *hard
    case*) the step goes along that eigenvector until the boundary. Parts of $g$ lost in its
    rounding count as none. One eigendecomposition: for up to some hundred dimensions; above,
    `truncated_cg`. Derivatives are those of the equations above, forwards and backwards; finite
    also where eigenvalues coincide.

    Args:
      hessian: $H$, symmetric; where it is not finite it counts as 0.
      gradient: $g$.
      radius: $\Delta > 0$.

    Returns:
      The step and how good it is.

    Example:
      On a saddle the gradient shows only the way along the first coordinate.

      >>> import jax.numpy as jnp
      >>> found = ball_minimum(jnp.diag(jnp.array([2.0, -1.0])), jnp.array([3.0, 0.0]), 2.0)
      >>> print(jnp.abs(found.step).round(4), found.on_boundary)
      [1.     1.7321] True

    References:
      Moré and Sorensen (1983), lemmas 2.1 and 2.3. https://doi.org/10.1137/0904038
    """
    hessian, gradient = floating(hessian), floating(gradient)
    return _search(hessian, gradient, jnp.asarray(radius, gradient.dtype))[0]


@ball_minimum.defjvp
def _ball_minimum_jvp(
    primals: tuple[Float[Array | np.ndarray, "dim dim"], Float[Array | np.ndarray, "dim"], Number],
    tangents: tuple[Float[Array | np.ndarray, "dim dim"], Float[Array | np.ndarray, "dim"], Number],
) -> tuple[BallMinimum, BallMinimum]:
    hessian, gradient = map(jnp.asarray, primals[:2])
    d_hessian, d_gradient = map(jnp.asarray, tangents[:2])
    radius, d_radius = jnp.asarray(primals[2], gradient.dtype), tangents[2]
    found, p, vectors, shifted = _search(hessian, gradient, radius)
    inverse = _inverse(shifted)
    # (H + lambda I) dp + dlambda p = -(dg + dH p), and p^T dp = r dr on the boundary
    right = matmul(d_gradient + matmul(d_hessian, found.step), vectors)
    outwards = radius * jnp.asarray(d_radius).astype(radius.dtype)
    d_lambda = -(jnp.sum(p * right * inverse) + outwards) * _inverse(jnp.sum(p**2 * inverse))
    d_p = -(right + jnp.where(found.on_boundary, d_lambda, 0) * p) * inverse
    d_step = matmul(vectors, d_p)
    slope = gradient + matmul(hessian, found.step)
    curved = 0.5 * jnp.sum(found.step * matmul(d_hessian, found.step))
    d_decrease = -jnp.sum(d_gradient * found.step) - curved - jnp.sum(slope * d_step)
    no_tangent: Any = np.zeros(found.on_boundary.shape, jax.dtypes.float0)
    return found, BallMinimum(d_step, d_decrease, no_tangent)


def _search(
    hessian: Float[Array, "dim dim"],
    gradient: Float[Array, "dim"],
    radius: Scalar,
) -> tuple[BallMinimum, Float[Array, "dim"], Float[Array, "dim dim"], Float[Array, "dim"]]:
    """Return the minimum, it and the shifted curvatures along the eigenvectors, and these."""
    eps = jnp.finfo(gradient.dtype).eps
    curvatures, vectors = jnp.linalg.eigh(
        jnp.where(jnp.all(jnp.isfinite(hessian)), hessian, 0), symmetrize_input=False
    )
    along = matmul(gradient, vectors)
    length = _norm(along)
    is_lost = (jnp.abs(along) <= eps * length) & jnp.isfinite(length)  # what is no number is kept
    along = jnp.where(is_lost, 0, along)
    lowest = curvatures[0] if len(gradient) else jnp.ones([], gradient.dtype)
    gaps = curvatures - lowest
    rounding = len(gradient) * eps * jnp.max(jnp.abs(curvatures), initial=0.0)
    indefinite = lowest < -rounding

    # in terms of shift = lambda + lambda_1, which keeps its digits where both are almost opposite
    coordinates = lambda shift: -_ratio(along, gaps + shift)
    least = jnp.maximum(lowest, 0)
    inside = _norm(coordinates(least)) <= radius

    def newton(t: _Trial) -> _Trial:
        p = coordinates(t.shift)
        length = _norm(p)
        slope = _norm(_ratio(p, jnp.sqrt(gaps + t.shift))) ** 2
        return _Trial(
            shift=t.shift + jnp.where(t.done, 0, (length / radius - 1) * _ratio(length**2, slope)),
            done=length <= radius * (1 + 10 * eps),
            count=t.count + 1,
        )

    # from the left, where the step is too long, Newton's iterates on 1 / |p| never overshoot
    start = jnp.maximum(least, jnp.max(jnp.abs(along) / radius - gaps, initial=0.0))
    last = control_flow.while_loop(
        lambda t: ~t.done & (t.count < _MAX_TRIALS),
        newton,
        _Trial(start, inside, jnp.zeros([], jnp.int32)),
    )
    shift = jnp.where(inside, least, last.shift)
    p = coordinates(shift)
    p = p * jnp.minimum(1, _ratio(radius, _norm(p)))
    missing = jnp.sqrt(jnp.maximum(radius**2 - _norm(p) ** 2, 0))
    hard = indefinite & inside
    if len(gradient):
        p = p.at[0].add(jnp.where(hard, missing, 0))
    found = BallMinimum(
        step=matmul(vectors, p),
        decrease=-jnp.sum(p * (along + 0.5 * curvatures * p)),
        on_boundary=hard | ~inside,
    )
    return found, p, vectors, gaps + shift


class _Trial(NamedTuple):
    shift: Scalar
    done: Bool[Array, ""]
    count: Int[Array, ""]


def _inverse(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Invert what is positive; the rest becomes 0."""
    return safe_ratio(1, a, where=a > 0)


def _ratio(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """Divide, with 0 where both are 0, and infinity only where `a` is not 0."""
    return jnp.where(a == 0, 0, a / jnp.where((a == 0) & (b == 0), 1, b))


def _norm(a: Float[Array, "dim"]) -> Scalar:
    return jnp.sqrt(jnp.sum(a**2))
