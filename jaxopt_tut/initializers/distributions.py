"""Initializers that ignore the shape: a constant, a normal and a uniform distribution."""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from jaxopt_tut.hyperparameters import cast, require_nonnegative
from jaxopt_tut.initializers.arguments import (
    drawing_dtype,
    require_inexact_dtype,
)
from jaxopt_tut.types import DTypeLike, Initializer, Number, PRNGKey, Shape

Distribution = Literal["normal", "uniform", "truncated_normal"]
DISTRIBUTIONS = get_args(Distribution)


def constant(value: Number) -> Initializer:
    r"""Build an initializer that fills an array with one value.

    $$w_{ij} = c.$$

    Right for biases and normalisation scales. A constant *weight* matrix leaves all units of a
    layer equal: they get the same gradient and stay equal, so the layer acts as a single unit.

    Args:
      value: The constant $c$, or an array that broadcasts to the shape asked for.

    Returns:
      An initializer; it takes a key, as all do, and does not use it.

    Raises:
      ValueError: When drawing, if the value does not broadcast to the shape.
      TypeError: When drawing, if a complex value is asked for in a real dtype, or the dtype is
        neither floating nor complex.

    Example:
      >>> import jax
      >>> constant(0.5)(jax.random.key(0), (2, 3)).tolist()
      [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]

    References:
      Goodfellow, Bengio, Courville (2016), *Deep Learning*, section 8.4, on breaking symmetry.
    """

    def init(key: PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> Array:
        del key  # nothing is drawn
        dtype = require_inexact_dtype("constant", dtype)
        if jnp.iscomplexobj(value) and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(f"constant needs a complex dtype for value={value}, got {dtype}.")
        try:
            return jnp.broadcast_to(jnp.asarray(value).astype(dtype), tuple(shape))
        except ValueError:
            raise ValueError(
                f"constant needs a value that broadcasts to shape {tuple(shape)}, "
                f"got a value of shape {jnp.shape(value)}."
            ) from None

    return init


def normal(stddev: Number) -> Initializer:
    r"""Build an initializer that draws from a normal distribution of a fixed width.

    $$w \sim \mathcal N(0, \sigma^2).$$

    The width ignores the layer's size, so the signal grows or dies with depth: by
    $\sigma^2 n_\text{in}$ a linear layer. Use `variance_scaling` and its recipes for weights, this
    one for embeddings and for showing the effect. A complex dtype draws real and imaginary part
    independently with $E|w|^2 = \sigma^2$.

    Args:
      stddev: The standard deviation $\sigma \ge 0$; may be traced.

    Returns:
      An initializer.

    Raises:
      ValueError: If a static `stddev` is negative, not finite, or not a scalar.
      TypeError: If `stddev` is no real number; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = normal(0.1)(jax.random.key(0), (400, 400))
      >>> round(float(w.std()), 2), abs(float(w.mean())) < 0.001
      (0.1, True)

    References:
      Lippe (2022), UvA Deep Learning tutorial 4, "Constant variance".
    """
    require_nonnegative("normal", stddev=stddev)
    return _widened("normal", stddev)


def uniform(bound: Number) -> Initializer:
    r"""Build an initializer that draws from a uniform distribution around zero.

    $$w \sim \mathcal U(-b, b), \qquad \operatorname{Var} w = b^2 / 3.$$

    Unlike `jax.nn.initializers.uniform`, whose range is $[0, b)$, it has mean zero. A complex
    dtype draws from the disc of radius $b$, where $E|w|^2 = b^2 / 2$.

    Args:
      bound: The half-width $b \ge 0$; may be traced.

    Returns:
      An initializer.

    Raises:
      ValueError: If a static `bound` is negative, not finite, or not a scalar.
      TypeError: If `bound` is no real number; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = uniform(0.3)(jax.random.key(0), (400, 400))
      >>> round(float(w.max()), 3), round(float(w.min()), 3), round(float(3 * w.var()), 2)
      (0.3, -0.3, 0.09)

    References:
      Glorot and Bengio (2010), eq. 1, with $b = 1/\sqrt n$.
      https://proceedings.mlr.press/v9/glorot10a.html
    """
    require_nonnegative("uniform", bound=bound)
    return _widened("uniform", bound)


def _widened(distribution: Literal["normal", "uniform"], width: Number) -> Initializer:
    """Build the initializer that draws from the plainest member of a family, times a width."""

    def init(key: PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> Array:
        dtype = require_inexact_dtype(distribution, dtype)
        unit, _ = standard_draw(key, tuple(shape), drawing_dtype(dtype), distribution)
        return (unit * cast(width, unit.dtype)).astype(dtype)

    return init


def standard_draw(
    key: PRNGKey, shape: Shape, dtype: np.dtype, distribution: Distribution
) -> tuple[Inexact[Array, "..."], float]:
    """Draw numbers of mean 0 from the plainest member of a family, and tell their variance."""
    if len(shape) > 2:  # the same bits, but XLA compiles a matrix of them five times faster
        flat = (math.prod(shape[:-1]), shape[-1])
        draws, variance = standard_draw(key, flat, dtype, distribution)
        return draws.reshape(shape), variance
    if distribution == "normal":
        return jax.random.normal(key, shape, dtype), 1.0
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        if distribution == "uniform":
            return jax.random.uniform(key, shape, dtype, -1, 1), 1 / 3
        return jax.random.truncated_normal(key, -2, 2, shape, dtype), 0.87962566103423978**2
    # The same laws on the plane, with E|w|^2 for the variance. Cut at |w| = 2, |w|^2 is exponential
    # and cut at 4, of mean 1 - 4 / (e^4 - 1); jax.nn.initializers takes 1 - 5 / e^4 there, and so
    # draws a variance of 1.019 for 1.
    key_radius, key_angle = jax.random.split(key)
    real = jnp.finfo(dtype).dtype
    squared = jax.random.uniform(key_radius, shape, real)
    variance = 1 / 2
    if distribution == "truncated_normal":
        squared = -jnp.log1p(math.expm1(-4) * squared)
        variance = 1 - 4 / math.expm1(4)
    angle = jax.random.uniform(key_angle, shape, real, 0, 2 * math.pi)
    radius = jnp.sqrt(squared)
    return jax.lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle)), variance
