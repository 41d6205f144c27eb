"""The factor that makes up for what an activation does to the size of a signal."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxopt_tut.initializers.activations import activation_name
from jaxopt_tut.initializers.quadrature import (
    RADIUS,
    gaussian_rule,
    resolve,
    settle,
    value_and_slope,
)
from jaxopt_tut.types import Activation, Scalar

Mode = Literal["forward", "backward", "centred"]

_MOMENTS = {
    "forward": "second moment",
    "backward": "second moment of the derivative",
    "centred": "variance",
}


def gain(activation: Activation, *, mode: Mode = "forward") -> float | Scalar:
    r"""Compute the gain of an activation: the standard deviation to give back behind it.

    $$g_\text{forward} = E[\phi(z)^2]^{-1/2}, \quad g_\text{backward} = E[\phi'(z)^2]^{-1/2}, \quad
      g_\text{centred} = \operatorname{Var}[\phi(z)]^{-1/2}, \qquad z \sim \mathcal N(0, 1).$$

    With weights of variance $g^2 / n_\text{in}$ behind it, a pre-activation of variance 1 is
    followed by one of variance 1 (`"forward"`), a gradient keeps its variance going back
    (`"backward"`, divided by $n_\text{out}$). `"centred"` is for a layer whose input is centred, by
    a normalisation for instance. Accurate to 1e-5, for activations with kinks and jumps at any
    place too, and for integrable singularities at 0; 1e-3 for those elsewhere, $|x - 1|^{-0.4}$ for
    instance, which the spacing of the numbers blurs. Takes a few milliseconds, and more the first
    time a function is compiled. Also works while a model that calls it is being traced.

    Args:
      activation: The function $\phi$, any elementwise JAX function. If it closes over a traced
        value, a learned slope for instance, the gain is a traced scalar, differentiable in that
        value, and exact to 1e-5 for kinks at the multiples of 1/4; of the errors below none that
        needs a value is raised then.
      mode: Which moment to invert.

    Returns:
      The gain $g > 0$.

    Raises:
      TypeError: If the activation is not callable or not real.
      ValueError: If `mode` is unknown, the activation is not elementwise (it mixes the entries, or
        depends on their places or on the shape), not finite, of infinite moment (1/x; the square
        root going backward), or its moment is zero (a constant when centred, a step going
        backward).

    Example:
      >>> import jax
      >>> round(gain(jax.nn.relu), 5), round(gain(jnp.tanh), 4), round(gain(lambda x: 3 * x), 5)
      (1.41421, 1.5925, 0.33333)
      >>> round(gain(jax.nn.relu, mode="centred"), 4)  # Var = 1/2 - 1/(2 pi)
      1.7129

    References:
      He, Zhang, Ren, Sun (2015), eq. 8 and eq. 13, for ReLU. https://arxiv.org/abs/1502.01852
      Klambauer, Unterthiner, Mayr, Hochreiter (2017), eq. 4 and eq. 5, for the moments of any
      activation. https://arxiv.org/abs/1706.02515
    """
    if mode not in _MOMENTS:
        raise ValueError(f"gain needs mode 'forward', 'backward' or 'centred', got mode={mode!r}.")
    panels = resolve("gain", activation, slopes=mode == "backward")
    if not panels.nodes.size:
        return _traced_gain(activation, mode, panels.edges)
    panels = settle("gain", activation, panels, [int(mode == "backward")])
    inside = np.abs(panels.nodes) <= RADIUS
    grows = _grows_beyond(panels.nodes, panels.values[-1])
    x, values = panels.nodes[inside], panels.values[-1, inside]
    name = activation_name(activation)
    if not np.isfinite(values).all():
        where = x[~np.isfinite(values)]
        raise ValueError(
            f"gain needs an activation with a finite {_MOMENTS[mode]}, got {name}, "
            f"which is not finite at {where[np.argmin(np.abs(where))]:.3g}."
        )
    weights = panels.weights[inside]
    density = np.exp(-x * x / 4) / (2 * np.pi) ** 0.25
    squares = (values * density) ** 2
    second = float(np.sum(weights * squares))
    if grows or squares[np.abs(x) > RADIUS - 0.5].max() > 1e-6 * second:
        raise ValueError(
            f"gain needs an activation with a finite {_MOMENTS[mode]}, got {name}, "
            f"whose mean square under N(0, 1) does not converge within |x| <= {RADIUS:g}."
        )
    moment = second
    if mode == "centred":
        mean = np.sum(weights * values * density**2)
        moment = float(np.sum(weights * ((values - mean) * density) ** 2))
    if moment <= 1e-12 * second:
        raise ValueError(
            f"gain needs an activation whose {_MOMENTS[mode]} is not zero, got {name}."
        )
    return moment**-0.5


def _grows_beyond(x: Float[np.ndarray, "node"], values: Float[np.ndarray, "node"]) -> bool:
    """Return whether the function outgrows the Gaussian further out than it is averaged."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.where(np.isfinite(values), 2 * np.log(np.abs(values)) - x * x / 2, -np.inf)
    distance = np.abs(x)
    last = logs[(distance > RADIUS - 1) & (distance <= RADIUS)].max()
    return bool(np.isfinite(last) and logs[distance > RADIUS + 1].max() > last)


def _traced_gain(activation: Activation, mode: Mode, edges: Float[np.ndarray, "edge"]) -> Scalar:
    """Compute the gain without looking at a number: on the standard panels, as an array."""
    rule = gaussian_rule(jnp.ones((), jnp.result_type(float)), edges)
    values = activation(rule.x) if mode != "backward" else value_and_slope(activation, rule.x)[1]
    if mode == "centred":
        values = values - jnp.sum(rule.width * values * rule.density**2)
    return jax.lax.rsqrt(jnp.sum(rule.width * (values * rule.density) ** 2))
