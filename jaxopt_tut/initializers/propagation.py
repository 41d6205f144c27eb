"""How the size and the angle of two signals change from one wide random layer to the next."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.hyperparameters import require_nonnegative, require_real
from jaxopt_tut.initializers.quadrature import (
    RADIUS,
    SMALLEST_VARIANCE,
    Rule,
    gaussian_rule,
    smooth_edges,
    value_and_slope,
)
from jaxopt_tut.types import Activation, Number, Scalar
from jaxopt_tut.vectors import safe_ratio

_NUM_COEFFICIENTS = 256


class Series(NamedTuple):
    """The covariance of two activations as a power series in the correlation of their inputs.

    Attributes:
      squares: Squared Hermite coefficients, of the powers 0, 1, 2, ...
      rest: What the even and the odd powers beyond those add up to.
      power: The one power that stands for them, even and odd.
    """

    squares: Float[Array, " power"]
    rest: Float[Array, "2"]
    power: Float[Array, "2"]


def variance_map(
    activation: Activation, variance: Number, weight_variance: Number, bias_variance: Number
) -> Float[Array, "*point"]:
    r"""Predict the variance of the pre-activations one layer on.

    $$V(q) = \sigma_w^2\, E[\phi(\sqrt q\, z)^2] + \sigma_b^2, \qquad z \sim \mathcal N(0, 1).$$

    Exact for infinite width; at width n it holds in the mean over networks, and a single network
    scatters around it by a relative $\sqrt{2/n}$ and more. Costs some 1500 evaluations of $\phi$.

    Args:
      activation: The function $\phi$, any elementwise JAX function.
      variance: The variance $q \ge 0$ of the pre-activations; below 1e-18 it is taken as 1e-18.
      weight_variance: $\sigma_w^2 \ge 0$, the variance of the weights times the fan-in.
      bias_variance: $\sigma_b^2 \ge 0$. The three numbers broadcast and may be traced.

    Returns:
      The variance of the next pre-activations; inf for a mean square that does not converge at
      that variance, as that of $e^{x^2 / 4}$ from q = 1 on. At an integrable singularity off zero,
      $|x - 1|^{-0.4}$, a few percent are lost (`gain` has all of it).

    Raises:
      TypeError: If the activation is not callable or not real, or a number is not real.
      ValueError: If a static number is negative, or the activation is not elementwise, or its mean
        square does not converge around a singularity.

    Example:
      >>> import jax
      >>> round(float(variance_map(jax.nn.relu, 3.0, 2.0, 0.5)), 4)
      3.5

    References:
      Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016), eq. 3.
      https://arxiv.org/abs/1606.05340
    """
    numbers = require_variances(
        "variance_map",
        variance=variance,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )
    edges = smooth_edges("variance_map", activation, [0])

    def point(q, sw2, sb2):
        return sw2 * second_moment(activation, q, edges) + sb2

    return jnp.vectorize(point)(*numbers)


def correlation_map(
    activation: Activation,
    correlation: Number,
    variance: Number,
    weight_variance: Number,
    bias_variance: Number,
) -> Float[Array, "*point"]:
    r"""Predict the correlation of two inputs' pre-activations one layer on.

    $$C(c) = \frac{\sigma_w^2\, E[\phi(u)\, \phi(v)] + \sigma_b^2}{V(q)}, \qquad
      (u, v) \sim \mathcal N\Bigl(0,\; q \begin{pmatrix} 1 & c \\ c & 1 \end{pmatrix}\Bigr).$$

    Evaluated as a power series in c (see `covariance_series`), to 1e-5.

    Args:
      activation: The function $\phi$, any elementwise JAX function.
      correlation: The correlation $c$ in [-1, 1] of the pre-activations.
      variance: The variance $q \ge 0$ of both; below 1e-18 it is taken as 1e-18.
      weight_variance: $\sigma_w^2 \ge 0$, the variance of the weights times the fan-in.
      bias_variance: $\sigma_b^2 \ge 0$. The four numbers broadcast and may be traced.

    Returns:
      The correlation of the next pre-activations.

    Raises:
      TypeError: If the activation is not callable or not real, or a number is not real.
      ValueError: If a static number is out of range, or the activation is not elementwise, or its
        mean square does not converge around a singularity.

    Example:
      >>> import jax
      >>> round(float(correlation_map(jax.nn.relu, 0.0, 1.0, 2.0, 0.0)), 4)  # 1 / pi
      0.3183

    References:
      Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016), eq. 5.
      https://arxiv.org/abs/1606.05340
    """
    require_real("correlation_map", scalar=False, correlation=correlation)
    if not isinstance(correlation, jax.Array) and not (np.abs(correlation) <= 1).all():
        raise ValueError(
            f"correlation_map needs -1 <= correlation <= 1, got correlation={correlation}."
        )
    numbers = require_variances(
        "correlation_map",
        variance=variance,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )
    edges = smooth_edges("correlation_map", activation, [0])

    def point(c, q, sw2, sb2):
        series = covariance_series(activation, q, edges)
        return 1 - next_distance(series, 1 - c, sw2, sb2)

    c = jnp.asarray(correlation).astype(numbers[0].dtype)
    c = jnp.where(jnp.abs(c) <= 1, c, jnp.nan)
    return jax.jit(jnp.vectorize(point))(c, *numbers)  # op by op it is dozens of programs


def require_variances(caller: str, **numbers: Number) -> list[Float[Array, "..."]]:
    """Refuse negative variances, and bring all to one floating dtype of at least single precision.

    Those that break the rule and could not be looked at are NaN.
    """
    require_nonnegative(caller, scalar=False, **numbers)
    arrays = [jnp.asarray(value) for value in numbers.values()]
    typed = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating) and not a.weak_type]
    wide = [dtype for dtype in typed if jnp.finfo(dtype).bits >= 32]
    dtype = (
        max(wide, key=lambda d: jnp.finfo(d).bits)
        if wide
        else (jnp.dtype(jnp.float32) if typed else jnp.result_type(float))
    )
    arrays = [a.astype(dtype) for a in arrays]
    return [jnp.where((a >= 0) & (a < jnp.inf), a, jnp.nan) for a in arrays]


def second_moment(
    activation: Activation, variance: Scalar, edges: Float[np.ndarray, "edge"]
) -> Scalar:
    r"""Average an activation's square, $E[\phi(\sqrt q\, z)^2]$; inf if that does not converge."""
    rule = gaussian_rule(variance, edges)
    return _mean_square(activation(rule.x), rule)


def slope_moment(
    activation: Activation, variance: Scalar, edges: Float[np.ndarray, "edge"]
) -> Scalar:
    r"""Average the square of an activation's derivative: $E[\phi'(\sqrt q\, z)^2]$."""
    rule = gaussian_rule(variance, edges)
    return _mean_square(value_and_slope(activation, rule.x)[1], rule)


def _mean_square(values: Float[Array, "node"], rule: Rule) -> Scalar:
    # Cut to numbers, because empty panels at the ends would make NaN of an overflow.
    largest = jnp.finfo(rule.x.dtype).max
    squares = jnp.minimum((values * rule.density) ** 2, largest)
    mean = jnp.sum(rule.width * squares)
    at_ends = jnp.max(jnp.where(jnp.abs(rule.z) > RADIUS - 0.5, squares, 0))
    return jnp.where(at_ends > 1e-6 * mean, jnp.inf, mean)


def covariance_series(
    activation: Activation, variance: Scalar, edges: Float[np.ndarray, "edge"]
) -> Series:
    r"""Expand the covariance of two activations in powers of the correlation of their inputs.

    $$E[\phi(u)\, \phi(v)] = \sum_{k \ge 0} a_k^2\, c^k, \qquad
      a_k = E[\phi(\sqrt q\, z)\, h_k(z)],$$

    with the normalised Hermite polynomials $h_k$: Mehler's formula, as in Daniely, Frostig, Singer
    (2016), lemma 11, https://arxiv.org/abs/1602.05897.
    """
    q = jnp.maximum(variance, SMALLEST_VARIANCE)
    rule = gaussian_rule(q, np.union1d(edges, -edges))
    value, slope = value_and_slope(activation, rule.x)
    value, slope = value * rule.density, slope * rule.density

    def step(hermite, k):
        before, now = hermite
        coefficient = jnp.sum(rule.width * value * now)
        after = (rule.z * now - jnp.sqrt(k) * before) / jnp.sqrt(k + 1)
        return (now, after), coefficient

    k = jnp.arange(_NUM_COEFFICIENTS, dtype=q.dtype)
    start = (jnp.zeros_like(rule.z), rule.density)
    coefficients = jax.lax.scan(step, start, k)[1]
    squares = coefficients**2

    def even_and_odd(f, known, sign):
        # The nodes are symmetric: f[::-1] is f(-x).
        straight, crossed = jnp.sum(rule.width * f * f), jnp.sum(rule.width * f * f[::-1])
        sums = jnp.stack([straight + sign * crossed, straight - sign * crossed]) / 2
        return jnp.maximum(sums - jnp.stack([known[::2].sum(), known[1::2].sum()]), 0)

    # For smooth activations a_k falls exponentially; for one with a kink only like k^(-5/4). So the
    # powers from 256 on are not dropped: their sums of a_k^2 and of k a_k^2, even and odd ones,
    # follow from the exact value and slope at c = 1 and -1, and one even and one odd power with
    # these sums stand for them.
    moment = even_and_odd(jnp.sqrt(q) * slope, k * squares, -1)
    # Every power in the rest is at least 256: rounding must not break that, or the slope is lost.
    rest = jnp.minimum(even_and_odd(value, squares, 1), moment / _NUM_COEFFICIENTS)
    power = safe_ratio(moment, rest, where=rest > 0, otherwise=_NUM_COEFFICIENTS)
    return Series(squares, rest, power)


def next_distance(
    series: Series, distance: Scalar, weight_variance: Scalar, bias_variance: Scalar
) -> Scalar:
    r"""Evaluate the correlation map in terms of the distance from perfect correlation, $d = 1 - c$.

    $$1 - C(1 - d) = \frac{\sigma_w^2 \sum_k a_k^2\, (1 - (1 - d)^k)}
      {\sigma_w^2 \sum_k a_k^2 + \sigma_b^2},$$

    which, unlike $C$ itself, is precise for nearly equal inputs: each term is taken with `expm1`.
    """
    squares, rest, power = series
    is_positive = distance <= 1
    gap = jnp.where(is_positive, distance, 2 - distance)  # 1 - |c|
    log_size = jnp.log1p(-jnp.minimum(gap, 1 - jnp.finfo(squares.dtype).eps))
    k = jnp.arange(2, len(squares), dtype=squares.dtype)
    # The first power stands alone: it keeps the derivative at c = 0.
    even, odd = (
        jnp.append(squares[2 + i :: 2], rest[i])
        @ jnp.expm1(log_size * jnp.append(k[i::2], power[i]))
        for i in range(2)
    )
    odd = jnp.where(is_positive, -odd, 2 * (squares[3::2].sum() + rest[1]) + odd)
    lost = squares[1] * distance - even + odd
    total = squares.sum() + rest.sum()
    return weight_variance * lost / (weight_variance * total + bias_variance)
