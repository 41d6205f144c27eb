"""Initializers whose variance follows the shape, so that the signal keeps its size."""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.hyperparameters import cast, require_nonnegative
from jaxopt_tut.initializers.arguments import (
    Axes,
    drawing_dtype,
    fans,
    require_inexact_dtype,
    require_kernel,
)
from jaxopt_tut.initializers.distributions import DISTRIBUTIONS, Distribution, standard_draw
from jaxopt_tut.initializers.gains import gain as activation_gain
from jaxopt_tut.types import Activation, DTypeLike, Initializer, Number, PRNGKey, Shape
from jaxopt_tut.vectors import safe_root

Mode = Literal["fan_in", "fan_out", "fan_avg"]


def variance_scaling(
    scale: Number,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
) -> Initializer:
    r"""Build an initializer whose variance is a scale over the number of connections.

    $$\operatorname{Var} w = s / n, \qquad n \in
      \{n_\text{in},\; n_\text{out},\; \tfrac12 (n_\text{in} + n_\text{out})\}.$$

    The family all recipes below belong to. For a convolution the receptive field counts into both
    fans. In a complex dtype $E|w|^2$ takes the place of the variance.

    A shape does not say what a layer does with a kernel, and the default axes are those of a dense
    layer and of a plain convolution. Other kernels need theirs, in every recipe of this module:

    * Depthwise, (*window, 1, c): `out_axis=(), batch_axis=-1`. With the default axes fan_out is c
      times too large, and the variance in mode `"fan_out"` c times too small.
    * In g groups, (*window, in / g, out): draw (*window, in / g, g, out / g) with
      `in_axis=-3, out_axis=-1, batch_axis=-2` and reshape. By default fan_out is g times too large.
      A depthwise kernel with several outputs a channel is drawn so as well.
    * Stacked for `scan` or `vmap`, or experts, (n, in, out): `batch_axis=0`. By default both fans
      are n times too large.
    * Query, key and value in one, (in, 3, out): `in_axis=0, out_axis=(1, 2)`, or each by itself
      with `in_axis=0, out_axis=2, batch_axis=1`. By default fan_in is 3 times too large.
    * Into heads, (in, heads, size): `in_axis=0, out_axis=(1, 2)`. By default fan_in is heads times
      too large. flax's `DenseGeneral` and attention hand over a flat shape, and need no axes.
    * Out of heads, (heads, size, out): `in_axis=(0, 1), out_axis=2`. By default fan_out is heads
      times too large.
    * Of equinox and torch, (out, in, *window): `in_axis=1, out_axis=0`.
    * With stride s in d directions: the scale times $s^d$ in mode `"fan_out"`, because an input
      reaches $s^d$ times fewer outputs. Transposed: in mode `"fan_in"`, the other way round.

    Args:
      scale: The factor $s \ge 0$; may be traced.
      mode: Which fan $n$ to divide by.
      distribution: `"truncated_normal"` is cut at two standard deviations of the uncut normal and
        widened so that its variance is the stated one.
      in_axis: Axis or axes of the kernel that are summed over. Kernels are (in, out) or HWIO by
        default; for equinox and torch, where weights are (out, in, ...), pass `in_axis=1`.
      out_axis: Axis or axes of the output; `out_axis=0` for equinox and torch.
      batch_axis: Axes along which independent kernels are stacked: layers of a scan, experts, the
        channels of a depthwise convolution.

    Returns:
      An initializer for kernels of rank >= 2.

    Raises:
      ValueError: If `scale` is negative, `mode` or `distribution` unknown; when drawing, if the
        rank is below 2, an axis does not exist, or the fan is zero.
      TypeError: If `scale` is no real number; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = variance_scaling(3.0, "fan_out", "uniform")(jax.random.key(0), (5, 5, 8, 60))
      >>> round(float(w.var()) * 5 * 5 * 60, 1), round(float(w.max()) * (5 * 5 * 60) ** 0.5, 1)
      (3.0, 3.0)
      >>> depthwise = variance_scaling(2.0, "fan_out", out_axis=(), batch_axis=-1)
      >>> round(float(depthwise(jax.random.key(0), (3, 3, 1, 4096)).var()) * 3 * 3, 1)
      2.0
      >>> grouped = variance_scaling(2.0, "fan_out", in_axis=-3, out_axis=-1, batch_axis=-2)
      >>> w = grouped(jax.random.key(0), (3, 3, 64, 4, 64)).reshape(3, 3, 64, 4 * 64)  # 4 groups
      >>> round(float(w.var()) * 3 * 3 * 64, 1)
      2.0

    References:
      He, Zhang, Ren, Sun (2015), eq. 7 and eq. 14, for the two fans.
      https://arxiv.org/abs/1502.01852
    """
    require_nonnegative("variance_scaling", scale=scale)
    root = safe_root(jnp.asarray(scale, jnp.result_type(scale, float)))
    return _scaled("variance_scaling", root, mode, distribution, (in_axis, out_axis, batch_axis))


def equal_variance(
    *, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> Initializer:
    r"""Build an initializer that keeps the variance of a linear layer's input.

    $$w \sim \mathcal N(0,\; 1/n_\text{in}).$$

    Right in front of no activation: for linear networks, and for the first layer of any network on
    normalised data (its input went through no ReLU). Stacked and multi-head kernels need their
    axes: see the list of `variance_scaling`.

    Args:
      in_axis: Axis or axes that are summed over.
      out_axis: Axis or axes of the output.
      batch_axis: Axes along which independent kernels are stacked.

    Returns:
      An initializer for kernels of rank >= 2.

    Raises:
      ValueError: When drawing, as `variance_scaling` does.
      TypeError: When drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = equal_variance()(jax.random.key(0), (784, 512))
      >>> round(float(w.var()) * 784, 2)
      1.0

    References:
      LeCun, Bottou, Orr, Müller (1998), *Efficient BackProp*, eq. 16.
      https://doi.org/10.1007/978-3-642-35289-8_3
    """
    return _scaled("equal_variance", 1.0, "fan_in", "normal", (in_axis, out_axis, batch_axis))


def xavier_normal(
    gain: Number = 1.0, *, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> Initializer:
    r"""Build Glorot's initializer in its normal form.

    $$w \sim \mathcal N\Bigl(0,\; \frac{2 g^2}{n_\text{in} + n_\text{out}}\Bigr).$$

    The harmonic mean of what the forward pass wants, $1/n_\text{in}$, and the backward pass,
    $1/n_\text{out}$; exact for both only in square linear layers. Under tanh at $g = 1$ the signal
    still decays with depth, like $1/(2 \cdot \text{depth})$. Depthwise, grouped, stacked and
    multi-head kernels need their axes: see the list of `variance_scaling`.

    Args:
      gain: The factor $g \ge 0$ on the standard deviation, for instance
        `initializers.gain(activation)`; may be traced.
      in_axis: Axis or axes that are summed over.
      out_axis: Axis or axes of the output.
      batch_axis: Axes along which independent kernels are stacked.

    Returns:
      An initializer for kernels of rank >= 2.

    Raises:
      ValueError: If `gain` is negative; when drawing, as `variance_scaling` does.
      TypeError: If `gain` is no real number; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = xavier_normal()(jax.random.key(0), (600, 200))
      >>> round(float(w.var()) * 800, 1)
      2.0

    References:
      Glorot and Bengio (2010), eq. 12. https://proceedings.mlr.press/v9/glorot10a.html
    """
    require_nonnegative("xavier_normal", gain=gain)
    return _scaled("xavier_normal", gain, "fan_avg", "normal", (in_axis, out_axis, batch_axis))


def xavier_uniform(
    gain: Number = 1.0, *, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> Initializer:
    r"""Build Glorot's initializer in its uniform form.

    $$w \sim \mathcal U(-b, b), \qquad b = g \sqrt{\frac{6}{n_\text{in} + n_\text{out}}}.$$

    The same variance as `xavier_normal`, with bounded weights, and the same axes.

    Args:
      gain: The factor $g \ge 0$ on the bound, for instance `initializers.gain(activation)`; may be
        traced.
      in_axis: Axis or axes that are summed over.
      out_axis: Axis or axes of the output.
      batch_axis: Axes along which independent kernels are stacked.

    Returns:
      An initializer for kernels of rank >= 2.

    Raises:
      ValueError: If `gain` is negative; when drawing, as `variance_scaling` does.
      TypeError: If `gain` is no real number; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = xavier_uniform()(jax.random.key(0), (400, 200))
      >>> round(float(w.max()), 3), round(float(w.min()), 3)  # sqrt(6 / 600)
      (0.1, -0.1)

    References:
      Glorot and Bengio (2010), eq. 16. https://proceedings.mlr.press/v9/glorot10a.html
    """
    require_nonnegative("xavier_uniform", gain=gain)
    return _scaled("xavier_uniform", gain, "fan_avg", "uniform", (in_axis, out_axis, batch_axis))


def kaiming_normal(
    activation: Activation = jax.nn.relu,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
) -> Initializer:
    r"""Build He's initializer, for the layer behind any activation.

    $$w \sim \mathcal N\Bigl(0,\; \frac{1}{n_\text{in}\, E[\phi(z)^2]}\Bigr)
      \quad\text{or}\quad
      \mathcal N\Bigl(0,\; \frac{1}{n_\text{out}\, E[\phi'(z)^2]}\Bigr), \qquad
      z \sim \mathcal N(0, 1).$$

    For ReLU both expectations are 1/2: the well-known $2/n$. `"fan_in"` keeps the variance of the
    pre-activations at 1 going forward, `"fan_out"` that of the gradients going backward. The first
    layer sees data, not activations: give it `equal_variance()`. Depthwise, grouped, stacked and
    multi-head kernels need their axes: see the list of `variance_scaling`.

    Args:
      activation: The function $\phi$ in front of the layer, any elementwise JAX function. A
        parametric one is a lambda, `lambda x: jax.nn.leaky_relu(x, slope)`; a traced slope works
        too, and the weights are differentiable in it (see `gain`).
      mode: Which pass to keep; `"fan_out"` takes the `"backward"` gain.
      in_axis: Axis or axes that are summed over.
      out_axis: Axis or axes of the output.
      batch_axis: Axes along which independent kernels are stacked.

    Returns:
      An initializer for kernels of rank >= 2.

    Raises:
      ValueError: If `mode` is unknown, or the activation has no gain (see `gain`); when drawing, as
        `variance_scaling` does.
      TypeError: If the activation is not callable or not real; when drawing, for an integer dtype.

    Example:
      >>> import jax
      >>> w = kaiming_normal()(jax.random.key(0), (512, 256))
      >>> round(float(w.var()) * 512, 2)
      2.0
      >>> w = kaiming_normal(jnp.tanh)(jax.random.key(0), (512, 256))
      >>> round(float(w.var()) * 512, 1)  # 1 / E[tanh(z)^2]
      2.5
      >>> depthwise = kaiming_normal(mode="fan_out", out_axis=(), batch_axis=-1)
      >>> w = depthwise(jax.random.key(0), (3, 3, 1, 4096))  # one 3 x 3 window behind each input
      >>> round(float(w.var()) * 3 * 3, 1)
      2.0

    References:
      He, Zhang, Ren, Sun (2015), eq. 10 and eq. 14. https://arxiv.org/abs/1502.01852
    """
    return _kaiming("kaiming_normal", activation, mode, "normal", (in_axis, out_axis, batch_axis))


def kaiming_uniform(
    activation: Activation = jax.nn.relu,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
) -> Initializer:
    r"""Build He's initializer in its uniform form.

    $$w \sim \mathcal U(-b, b), \qquad b^2 = \frac{3}{n_\text{in}\, E[\phi(z)^2]}
      \quad\text{or}\quad \frac{3}{n_\text{out}\, E[\phi'(z)^2]}.$$

    The same variance as `kaiming_normal`, with bounded weights; depthwise, grouped, stacked and
    multi-head kernels need their axes: see the list of `variance_scaling`.

    Args:
      activation: The function $\phi$ in front of the layer, any that `kaiming_normal` takes.
      mode: Which pass to keep.
      in_axis: Axis or axes that are summed over.
      out_axis: Axis or axes of the output.
      batch_axis: Axes along which independent kernels are stacked.

    Returns:
      An initializer for kernels of rank >= 2.

    Raises:
      ValueError: As `kaiming_normal` does.
      TypeError: As `kaiming_normal` does.

    Example:
      >>> import jax
      >>> w = kaiming_uniform()(jax.random.key(0), (600, 300))
      >>> round(float(w.max()), 3), round(float(w.min()), 3)  # sqrt(6 / 600)
      (0.1, -0.1)

    References:
      He, Zhang, Ren, Sun (2015), eq. 10 and eq. 14. https://arxiv.org/abs/1502.01852
    """
    return _kaiming("kaiming_uniform", activation, mode, "uniform", (in_axis, out_axis, batch_axis))


def _kaiming(
    caller: str,
    activation: Activation,
    mode: Mode,
    distribution: Distribution,
    axes: tuple[Axes, Axes, Axes],
) -> Initializer:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{caller} needs mode 'fan_in' or 'fan_out', got mode={mode!r}.")
    factor = activation_gain(activation, mode="forward" if mode == "fan_in" else "backward")
    return _scaled(caller, factor, mode, distribution, axes)


def _scaled(
    caller: str,
    factor: Number,
    mode: Mode,
    distribution: Distribution,
    axes: tuple[Axes, Axes, Axes],
) -> Initializer:
    """Build the initializer of standard deviation `factor / sqrt(fan)`."""
    for name, value, allowed in (
        ("mode", mode, get_args(Mode)),
        ("distribution", distribution, DISTRIBUTIONS),
    ):
        if value not in allowed:
            choices = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
            raise ValueError(f"{caller} needs {name} {choices}, got {name}={value!r}.")

    def init(key: PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> Array:
        dtype = require_inexact_dtype(caller, dtype)
        shape = require_kernel(caller, shape)
        fan_in, fan_out = fans(caller, shape, *axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        if fan == 0:
            raise ValueError(f"{caller} needs {mode} > 0, got {mode}=0 for shape {shape}.")
        standard, variance = standard_draw(key, shape, drawing_dtype(dtype), distribution)
        spread = cast(factor, standard.dtype) * math.sqrt(1 / (variance * fan))
        return (standard * spread).astype(dtype)

    return init
