"""Order, chaos and the edge between them: where deep random networks end up."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.blocks import shown
from jaxopt_tut.initializers.activations import activation_name
from jaxopt_tut.initializers.propagation import (
    covariance_series,
    next_distance,
    require_variances,
    second_moment,
    slope_moment,
)
from jaxopt_tut.initializers.quadrature import smooth_edges
from jaxopt_tut.tracing import known
from jaxopt_tut.types import Activation, Number, Scalar

SMALLEST, LARGEST = 2.0**-40, 2.0**40
"""The variances that are told apart from zero and infinity."""

_ROUNDING = 32  # in units of the precision: what an average over some 1500 nodes may be off by


@shown
class MeanField(NamedTuple):
    """What a deep, wide random network does to its inputs.

    Attributes:
      q_star: Variance that the pre-activations end with; 0 if they die out, inf if they grow
        without end.
      chi: Factor on the variance of the gradient per layer, below 1 in the ordered phase, above 1
        in the chaotic one.
      c_star: Correlation that any two inputs end with.
      depth_scale: Number of layers in which the distance to `c_star` falls by a factor e; inf at
        the edge of chaos.
    """

    q_star: Float[Array, "*point"]
    chi: Float[Array, "*point"]
    c_star: Float[Array, "*point"]
    depth_scale: Float[Array, "*point"]


@shown
class Critical(NamedTuple):
    """A point on the edge of chaos.

    Attributes:
      weight_variance: Variance of the weights times the fan-in.
      q_star: Variance that the pre-activations end with there.
    """

    weight_variance: Float[Array, "*point"]
    q_star: Float[Array, "*point"]


def mean_field(activation: Activation, weight_variance: Number, bias_variance: Number) -> MeanField:
    r"""Predict how signals and gradients fare in a deep network with random weights.

    $$q^* = V(q^*), \qquad \chi = \sigma_w^2\, E[\phi'(\sqrt{q^*} z)^2], \qquad c^* = C(c^*), \qquad
      \xi = -1 / \log C'(c^*),$$

    with the maps $V$ and $C$ of `variance_map` and `correlation_map`. For $\chi \le 1$ all inputs
    become equal, $c^* = 1$ and $C'(c^*) = \chi$ (ordered phase, gradients vanish); for $\chi > 1$
    they become less alike (chaotic phase, gradients explode). Networks much deeper than
    $\xi$ layers cannot be trained. Jit it for a phase diagram: it vectorises, and derivatives in
    both variances are exact, by the implicit function theorem. Costs some 150 averages.

    Three limits: $q^*$ is the first fixed point that $q = 1$ moves towards, and 1 itself if every q
    is fixed (ReLU at $\sigma_w^2 = 2$, where it has no derivative). Below 1e-12 it is 0, and then
    $c^* = 1$ and $\xi$ are those of a vanishing bias variance. Above 1e12 it is inf, and the rest
    is what a signal of that variance meets.

    Args:
      activation: The function $\phi$, any elementwise JAX function without jumps.
      weight_variance: $\sigma_w^2 \ge 0$, the variance of the weights times the fan-in.
      bias_variance: $\sigma_b^2 \ge 0$. Both broadcast and may be traced.

    Returns:
      `MeanField(q_star, chi, c_star, depth_scale)`.

    Raises:
      TypeError: If the activation is not callable or not real, or a number is not real.
      ValueError: If a static number is negative, or the activation is not elementwise, or its mean
        square or that of its derivative does not converge around a singularity.

    Example:
      >>> field = mean_field(jnp.tanh, 1.0, 0.05)
      >>> [round(float(x), 3) for x in field]  # chi < 1: c* = 1 and the depth scale is -1 / log chi
      [0.194, 0.759, 1.0, 3.627]

    References:
      Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016), eq. 3 to 6.
      https://arxiv.org/abs/1606.05340
      Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), eq. 5 and eq. 9 for the depth scale.
      https://arxiv.org/abs/1611.01232
    """
    numbers = require_variances(
        "mean_field", weight_variance=weight_variance, bias_variance=bias_variance
    )
    edges = smooth_edges("mean_field", activation, [0, 1])

    def point(sw2, sb2):
        tolerance = _ROUNDING * jnp.finfo(sw2.dtype).eps
        q = _first_fixed_point(lambda q: sw2 * second_moment(activation, q, edges) + sb2, sw2.dtype)
        chi = sw2 * slope_moment(activation, q, edges)
        series = covariance_series(activation, q, edges)

        def distance(d):
            return next_distance(series, d, sw2, sb2)

        slope_at_one = jnp.where(q <= SMALLEST, chi, jax.grad(distance)(jnp.zeros_like(q)))
        is_chaotic = slope_at_one > 1 + tolerance
        d_star = jnp.where(is_chaotic, _fixed_distance(distance, q.dtype), 0)
        slope = jnp.where(is_chaotic, jax.grad(distance)(d_star), slope_at_one)
        decays = slope < 1 - tolerance
        depth_scale = jnp.where(decays, -1 / jnp.log(jnp.where(decays, slope, 0.5)), jnp.inf)
        found = MeanField(_with_limits(q), chi, 1 - d_star, depth_scale)
        return jax.tree.map(lambda x: jnp.where(jnp.isnan(sw2 + sb2), jnp.nan, x), found)

    # op by op it is hundreds of programs; over axes of length 1 `vectorize` makes a bare tuple
    return MeanField(*jax.jit(jnp.vectorize(point))(*numbers))


def critical(activation: Activation, bias_variance: Number) -> Critical:
    r"""Find the weight variance on the edge of chaos, where gradients keep their size.

    $$\chi = \sigma_w^2\, E[\phi'(\sqrt{q^*} z)^2] = 1, \qquad q^* = V(q^*),$$

    solved as one equation, $q^* = E[\phi^2] / E[\phi'^2] + \sigma_b^2$. There the depth scale is
    infinite, and very deep networks train. For ReLU, $\sigma_w^2 = 2$ at any bias; without bias
    every $q$ is a fixed point (1 is returned), with bias none is (inf). The fixed point may be one
    that signals leave: GELU, SiLU and Mish need a bias variance above some .17, .56 and .10 for one
    that holds them. `mean_field` at the returned point tells: it then finds another $q^*$.

    Args:
      activation: The function $\phi$, any elementwise JAX function without jumps.
      bias_variance: $\sigma_b^2 \ge 0$; may be an array and traced.

    Returns:
      `Critical(weight_variance, q_star)`; the weight variance is NaN where a traced bias variance
      has no critical point.

    Raises:
      TypeError: If the activation is not callable or not real, or the number is not real.
      ValueError: If the bias variance is static and negative or has no critical point, or the
        activation is not elementwise, or its mean square or that of its derivative does not
        converge around a singularity.

    Example:
      >>> point = critical(jnp.tanh, 0.05)
      >>> [round(float(x), 3) for x in point]
      [1.761, 0.57]

    References:
      Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), section 3. https://arxiv.org/abs/1611.01232
      Hayou, Doucet, Rousseau (2019), definition 2 and algorithm 1. https://arxiv.org/abs/1902.06853
    """
    (sb2,) = require_variances("critical", bias_variance=bias_variance)
    edges = smooth_edges("critical", activation, [0, 1])

    def point(sb2):
        def consistent(q):
            ratio = second_moment(activation, q, edges) / slope_moment(activation, q, edges)
            return ratio + sb2

        q = _first_fixed_point(consistent, sb2.dtype)
        slope = slope_moment(activation, q, edges)
        # Where q goes to 0 or inf the slopes must tend to a limit; those of x**2 don't.
        inwards = jnp.clip(q, 16 * SMALLEST, LARGEST / 16)
        change = slope / slope_moment(activation, inwards, edges) - 1
        exists = (slope > 0) & (jnp.abs(change) < 0.1)
        found = Critical(jnp.where(exists, 1 / slope, jnp.nan), _with_limits(q))
        return jax.tree.map(lambda x: jnp.where(jnp.isnan(sb2), jnp.nan, x), found)

    result = Critical(*jax.jit(jnp.vectorize(point))(sb2))
    variances = known(result.weight_variance)
    if variances is not None and not (variances < jnp.inf).all():
        raise ValueError(
            "critical needs an activation with a weight variance where chi = 1, "
            f"got {activation_name(activation)}, which has none at bias_variance={bias_variance}."
        )
    return result


def _first_fixed_point(next_q: Callable[[Array], Array], dtype: np.dtype) -> Scalar:
    """Find the first q that `next_q` keeps, on the side that q = 1 moves to."""
    # A grid of powers of two brackets it and bisection finishes; both ends of the grid stand for
    # "none on this side". Differences within rounding count as no movement.
    tolerance = _ROUNDING * jnp.finfo(dtype).eps
    grid = 2.0 ** jnp.arange(-40, 41, dtype=dtype)
    start = 40

    def solve(excess, _):
        growth = jax.vmap(lambda q: excess(q) / q)(grid)
        rises, falls = growth > tolerance, growth < -tolerance
        place = jnp.arange(grid.size)
        above, below = falls & (place > start), rises & (place < start)
        up, down = rises[start], falls[start]
        low = jnp.where(up, jnp.argmax(above) - 1, jnp.max(jnp.where(below, place, 0)))
        num_steps = jnp.finfo(dtype).nmant + 2
        root = _bisect(lambda q: excess(q) > 0, grid[low], grid[low + 1], num_steps)
        upwards = jnp.where(above.any(), root, LARGEST)
        downwards = jnp.where(below.any(), root, SMALLEST)
        return jnp.where(up, upwards, jnp.where(down, downwards, 1)).astype(dtype)

    def tangent_solve(linear, y):
        return y / linear(jnp.ones_like(y))

    return jax.lax.custom_root(lambda q: next_q(q) - q, grid[start], solve, tangent_solve)


def _fixed_distance(distance: Callable[[Array], Array], dtype: np.dtype) -> Scalar:
    """Find the fixed point of the correlation map other than perfect correlation."""
    # A power series in c with positive coefficients is convex on [0, 1], and meets the diagonal at
    # most once below c = 1: bisection cannot find another.
    one = jnp.ones((), dtype)

    def solve(excess, _):
        # Twice the digits: near the edge of chaos the distance itself is small.
        num_steps = 2 * jnp.finfo(dtype).nmant
        return _bisect(lambda d: excess(d) > 0, jnp.zeros_like(one), one, num_steps)

    def tangent_solve(linear, y):
        slope = linear(one)  # zero only at the edge of chaos, where the result is not used
        return y / jnp.where(slope == 0, 1, slope)

    return jax.lax.custom_root(lambda d: distance(d) - d, one, solve, tangent_solve)


def _bisect(
    is_below: Callable[[Array], Array], low: Scalar, high: Scalar, num_steps: int
) -> Scalar:
    """Halve a bracket around the point where `is_below` turns false."""

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        below = is_below(middle)
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    return jax.lax.fori_loop(0, num_steps, halve, (low, high))[1]


def _with_limits(q: Scalar) -> Scalar:
    """Replace the ends of the range by 0 and inf; the derivative at 0 stays."""
    return (q - jnp.where(q <= SMALLEST, SMALLEST, 0)) * jnp.where(q >= LARGEST, jnp.inf, 1)
