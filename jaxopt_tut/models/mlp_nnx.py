"""The network of `jaxopt_tut.models.mlp` as a flax nnx module."""

from itertools import pairwise
from typing import Any

import jax
from flax import nnx

from jaxopt_tut.initializers import equal_variance, kaiming_normal
from jaxopt_tut.models.mlp import FASHION_MNIST_SIZES, Inputs, Sizes, _flatten
from jaxopt_tut.types import Activation, Initializer


class MLP(nnx.Module):
    """A fully connected network: an activation after every hidden layer, none after the last.

    It computes what `mlp.apply` computes; its parameters are those of `nnx.Linear`.

    Args:
      sizes: Widths, input first.
      activation: The elementwise function after every hidden layer.
      kernel_init: Draws all kernels; by default Kaiming's, and N(0, 1/d_in) for the first.
      rngs: Where the keys come from.

    Example:
      >>> import jax.numpy as jnp
      >>> model = MLP((4, 8, 3), rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 4))).shape
      (2, 3)
    """

    def __init__(
        self,
        sizes: Sizes = FASHION_MNIST_SIZES,
        *,
        activation: Activation = jax.nn.relu,
        kernel_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the layers."""
        first = equal_variance() if kernel_init is None else kernel_init
        rest = kaiming_normal() if kernel_init is None else kernel_init
        self.activation = activation
        self.layers = nnx.List(
            nnx.Linear(fan_in, fan_out, kernel_init=first if i == 0 else rest, rngs=rngs)
            for i, (fan_in, fan_out) in enumerate(pairwise(sizes))
        )

    def __call__(self, inputs: Inputs, *, return_pre_activations: bool = False) -> Any:
        """Evaluate the network; the arguments and the result are those of `mlp.apply`."""
        hidden = _flatten(inputs, self.layers[0].in_features)
        pre_activations = []
        for i, layer in enumerate(self.layers):
            hidden = layer(hidden if i == 0 else self.activation(hidden))
            pre_activations.append(hidden)
        return (hidden, tuple(pre_activations)) if return_pre_activations else hidden
