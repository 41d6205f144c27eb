"""Conjugate gradients that need no definite matrix: they stop where it is not."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, counts
from jaxopt_tut.blocks import shown
from jaxopt_tut.linalg.solution import Matvec, VectorLike, floating
from jaxopt_tut.types import Limit, Number, Scalar
from jaxopt_tut.vectors import dot, magnitude


@shown
class TruncatedCG(NamedTuple):
    """The outcome of `truncated_cg`."""

    step: Float[Array, "dim"]
    decrease: Scalar  # of the quadratic model, 0 or more
    residual_norm: Scalar
    num_products: Int[Array, ""]  # of the matrix and a vector
    is_indefinite: Bool[Array, ""]  # whether a direction of negative curvature was met
    on_boundary: Bool[Array, ""]


def truncated_cg(
    matvec: Matvec,
    gradient: VectorLike,
    *,
    tol: Number,
    model_tol: Number = jnp.inf,
    radius: Number = jnp.inf,
    max_steps: Limit,
) -> TruncatedCG:
    r"""Minimise a quadratic model within a ball, as far as conjugate gradients lead.

    $$\min_p\ g^T p + \tfrac12 p^T H p, \qquad \lVert p \rVert \le \Delta$$

    from $p = 0$, until the residual $\lVert g + H p \rVert$ falls below `tol` and the $k$-th
    product (of $n$) lowers the model by no more than `model_tol` $/ k$ of all the decrease, the
    path leaves the ball or a direction has negative curvature. In the last two cases the step goes
    on to the boundary; if there is none, it ends before that direction, and if it is the first, it
    is $-g\, \lVert g \rVert^2 / |g^T H g|$. The model decreases in every step. One product with $H$
    a step, four vectors of memory. It works on $g$ and $\Delta$ scaled to about 1, so that no
    square over- or underflows.

    Args:
      matvec: Multiplies by the symmetric matrix $H$.
      gradient: $g$.
      tol: Norm of the residual at which to stop.
      model_tol: Share of the mean decrease at which to stop besides, about 1/2: a small residual
        alone may miss directions of little curvature, along which the steps are long. Infinity
        asks for nothing.
      radius: $\Delta > 0$.
      max_steps: Products at most.

    Returns:
      The step and how good it is.

    Example:
      >>> import jax.numpy as jnp
      >>> h = jnp.array([1.0, 4.0])
      >>> inside = truncated_cg(lambda p: h * p, jnp.array([1.0, 4.0]), tol=1e-6, max_steps=9)
      >>> print(inside.step.round(4), inside.num_products)
      [-1. -1.] 2
      >>> saddle = truncated_cg(lambda p: -p, jnp.array([3.0]), tol=1e-6, radius=2.0, max_steps=9)
      >>> print(saddle.step, saddle.on_boundary)
      [-2.] True

    References:
      Steihaug (1983), algorithm 2. https://doi.org/10.1137/0720042
      Nocedal and Wright (2006), algorithms 7.1 and 7.2.
      Nash and Sofer (1990), for the test on the model. https://doi.org/10.1016/0167-6377(90)90026-5
    """
    gradient = floating(gradient)
    dtype = gradient.dtype
    radius = jnp.asarray(radius, dtype)
    # with p = b p' and g = a g' the model is a b (g'^T p' + p'^T (b H / a) p' / 2)
    a, b = magnitude(gradient), magnitude(radius)
    scaled = lambda v: matvec(b * v) / a
    tol = jnp.asarray(tol, dtype)
    found = _solve(scaled, gradient / a, tol / a, model_tol, radius / b, max_steps)
    return found._replace(
        step=b * found.step,
        decrease=a * (b * found.decrease),
        residual_norm=a * found.residual_norm,
    )


def _solve(
    matvec: Matvec,
    gradient: Float[Array, "dim"],
    tol: Scalar,
    model_tol: Number,
    radius: Scalar,
    max_steps: Limit,
) -> TruncatedCG:
    """Do what `truncated_cg` does for a gradient and a radius of about 1."""
    dtype = gradient.dtype
    squared = dot(gradient, gradient)
    never = jnp.zeros([], bool)

    def advance(s: _State) -> _State:
        product = matvec(s.direction)
        curvature = dot(s.direction, product)
        convex = curvature > 0
        # the step of conjugate gradients; or, as far as the boundary, along a direction that leaves
        length = s.squared / jnp.where(convex, curvature, 1)
        inside = s.step + length * s.direction
        leaves = ~convex | (dot(inside, inside) >= radius**2)
        # without a boundary: stay, or take the gradient if there is nowhere to stay
        to_boundary = jnp.where(
            jnp.isfinite(radius),
            _length_to_boundary(s.step, s.direction, radius),
            jnp.where(s.count == 0, jnp.where(curvature < 0, -s.squared / curvature, 1), 0),
        )
        length = jnp.where(leaves, to_boundary, length)
        residual = s.residual + length * product
        new_squared = dot(residual, residual)
        ratio = new_squared / jnp.where(s.squared > 0, s.squared, 1)
        gain = 0.5 * length * s.squared  # of this product, in the decrease of the model
        decrease = s.decrease + gain
        # of k products each lowers the model by gain on average; is the last one well below that
        enough = (s.count + 1).astype(dtype) * gain <= model_tol * decrease
        enough = enough | (s.count + 1 >= gradient.size)  # every direction was seen
        return _State(
            step=s.step + length * s.direction,
            residual=residual,
            direction=ratio * s.direction - residual,
            squared=new_squared,
            count=s.count + 1,
            is_indefinite=~convex,
            decrease=decrease,
            done=leaves
            | ((jnp.sqrt(new_squared) <= tol) & enough)
            | (new_squared == 0)
            | ~jnp.isfinite(new_squared),
        )

    first = _State(
        step=jnp.zeros_like(gradient),
        residual=gradient,
        direction=-gradient,
        squared=squared,
        count=jnp.zeros([], jnp.int32),
        is_indefinite=never,
        decrease=jnp.zeros([], dtype),
        done=~(jnp.sqrt(squared) > tol) | ~jnp.isfinite(squared),
    )
    limit = counts.as_limit(max_steps)
    last = control_flow.while_loop(lambda s: ~s.done & (s.count < limit), advance, first)
    norm = jnp.sqrt(dot(last.step, last.step))
    return TruncatedCG(
        # what is not finite must not look like the step 0 of a minimum
        step=jnp.where(jnp.isfinite(squared), last.step, jnp.nan),
        # the residual is g + H p, so that p^T H p needs no further product
        decrease=-0.5 * dot(last.step, gradient + last.residual),
        residual_norm=jnp.sqrt(last.squared),
        num_products=last.count,
        is_indefinite=last.is_indefinite,
        on_boundary=norm >= radius * (1 - 100 * jnp.finfo(dtype).eps),
    )


class _State(NamedTuple):
    step: Float[Array, "dim"]
    residual: Float[Array, "dim"]
    direction: Float[Array, "dim"]
    squared: Scalar  # norm of the residual
    count: Int[Array, ""]
    is_indefinite: Bool[Array, ""]
    decrease: Scalar  # of the model
    done: Bool[Array, ""]


def _length_to_boundary(p: Float[Array, "dim"], d: Float[Array, "dim"], radius: Scalar) -> Scalar:
    """Return t >= 0 with |p + t d| = radius, without cancellation."""
    norm = jnp.sqrt(dot(d, d))
    d = d / jnp.where(norm > 0, norm, 1)
    pd, gap = dot(p, d), jnp.maximum(radius**2 - dot(p, p), 0)
    root = jnp.sqrt(pd**2 + gap)
    t = jnp.where(pd > 0, gap / jnp.where(pd > 0, root + pd, 1), root - pd)
    return t / jnp.where(norm > 0, norm, 1)
