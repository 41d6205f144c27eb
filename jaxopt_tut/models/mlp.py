"""The fully connected network of the first tutorial, as two pure functions.

The parameters are a tuple with one dictionary `{"kernel": (d_in, d_out), "bias": (d_out,)}` a
layer, so that leaf `2/kernel` is the third layer's weight matrix.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.initializers import constant, equal_variance, kaiming_normal
from jaxopt_tut.types import Activation, DTypeLike, Initializer, PRNGKey

__all__ = ["FASHION_MNIST_SIZES", "apply", "init"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


FASHION_MNIST_SIZES = (784, 512, 256, 256, 128, 10)
"""Widths of the tutorial's network, input first: 633 226 parameters."""

Layers = TypeAliasType("Layers", tuple[dict[str, Array], ...])
"""`{"kernel", "bias"}` of every layer."""

Sizes = TypeAliasType("Sizes", Sequence[int])
"""Widths, input first."""

Inputs = TypeAliasType(
    "Inputs", Float[Array, "*batch height width"] | Float[Array, "*batch features"]
)
"""Images, or vectors of features."""


def init(
    key: PRNGKey,
    sizes: Sizes = FASHION_MNIST_SIZES,
    *,
    kernel_init: Initializer | None = None,
    first_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Layers:
    r"""Draw the parameters of a fully connected network.

    $$W_l \sim \mathrm{kernel\_init}, \qquad b_l \sim \mathrm{bias\_init}$$

    Args:
      key: One typed key; every layer's kernel and bias get their own.
      sizes: Widths $d_0, d_1, \dots, d_L$, input first.
      kernel_init: Draws the kernels; Kaiming's for ReLU by default.
      first_kernel_init: Draws the first kernel; `kernel_init` if that is given, else $N(0, 1/d_0)$:
        the first layer's input went through no ReLU.
      bias_init: Draws the biases; zeros by default.
      dtype: Of all parameters.

    Returns:
      A tuple of `{"kernel", "bias"}`, one a layer.

    Raises:
      ValueError: If `sizes` names fewer than two widths or one that is not positive.

    Example:
      >>> import jax
      >>> params = init(jax.random.key(0))
      >>> sum(leaf.size for leaf in jax.tree.leaves(params))
      633226
    """
    if len(sizes) < 2 or any(size < 1 for size in sizes):
        raise ValueError(f"mlp.init needs at least two positive sizes, got sizes={tuple(sizes)}.")
    if first_kernel_init is None:
        first_kernel_init = equal_variance() if kernel_init is None else kernel_init
    kernel_init = kaiming_normal() if kernel_init is None else kernel_init
    bias_init = constant(0.0) if bias_init is None else bias_init
    layers = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        kernel_key, bias_key = jax.random.split(jax.random.fold_in(key, i))
        draw = first_kernel_init if i == 0 else kernel_init
        layers.append(
            {
                "kernel": draw(kernel_key, (fan_in, fan_out), dtype),
                "bias": bias_init(bias_key, (fan_out,), dtype),
            }
        )
    return tuple(layers)


def apply(
    params: Layers,
    inputs: Inputs,
    activation: Activation = jax.nn.relu,
    *,
    return_pre_activations: bool = False,
) -> Any:
    r"""Evaluate the network: an activation after every hidden layer, none after the last.

    $$z_l = h_{l-1} W_l + b_l, \qquad h_l = \phi(z_l), \qquad h_0 = x, \qquad \text{output } z_L$$

    Args:
      params: What `init` returned.
      inputs: Features in the last axis, or in the last two (images), which are then flattened.
      activation: The elementwise function $\phi$.
      return_pre_activations: Return $z_1, \dots, z_L$ too.

    Returns:
      The logits $z_L$; with the switch the pair of the logits and the tuple of all $z_l$.

    Raises:
      ValueError: If the inputs have neither $d_0$ features nor images of $d_0$ pixels.

    Example:
      >>> layer = {"kernel": jnp.array([[2.0], [0.0]]), "bias": jnp.array([-3.0])}
      >>> head = {"kernel": jnp.array([[1.0]]), "bias": jnp.array([0.5])}
      >>> apply((layer, head), jnp.array([[1.0, 9.0], [2.0, 9.0]])).tolist()
      [[0.5], [1.5]]
    """
    hidden = _flatten(inputs, params[0]["kernel"].shape[0])
    pre_activations = []
    for i, layer in enumerate(params):
        hidden = hidden if i == 0 else activation(hidden)
        hidden = hidden @ layer["kernel"] + layer["bias"]
        pre_activations.append(hidden)
    return (hidden, tuple(pre_activations)) if return_pre_activations else hidden


def _flatten(inputs: Inputs, num_features: int) -> Float[Array, "..."]:
    """Bring images to vectors; leave vectors alone."""
    if inputs.ndim >= 1 and inputs.shape[-1] == num_features:
        return inputs
    if inputs.ndim >= 2 and inputs.shape[-1] * inputs.shape[-2] == num_features:
        return inputs.reshape(*inputs.shape[:-2], num_features)
    raise ValueError(
        f"mlp.apply needs inputs of {num_features} features (or images of as many pixels), "
        f"got shape {inputs.shape}."
    )
