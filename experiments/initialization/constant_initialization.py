"""With constant weights the gradient of each middle layer takes one single value.

Question: Why may weights not all start at the same value, if that value has a good size?

Claim: in the network 784-512-256-256-128-10 without activation, all weights .005, the gradient of
each middle layer takes one single value, that of the first layer differs between pixels only and
that of the last between classes only: the layers stay as if they had one unit each. Each unit is
.005 times the sum of those below, so that the variance of the pre-activations is multiplied by
(.005 d_in)^2 a layer, whatever the data.

Why: Units that start as copies stay copies, for their gradients are equal: a layer of 256 of them
can do what one can. Randomness is there to tell units apart, its variance only sets the scale.

Source: UvA tutorial 4, constant initialization.
Section: A4.
Command: python -m experiments constant_initialization [--data full]
Expected: variances of layers 1 to 5: 2.0 13 22 36 15; one gradient in each middle layer.
Time: 4 s.
"""

import dataclasses
import sys
from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.datasets import normalize
from jaxopt_tut.initializers import constant
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import plot_distributions

FULL_PRODUCTS = True  # claims to the rounding of float32
SIZES = mlp.FASHION_MNIST_SIZES
VALUE = 0.005


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    batch_size: int = 1024

    def quick(self) -> "Config":
        return dataclasses.replace(self, batch_size=256)


class Result(NamedTuple):
    """One array a layer, of one batch."""

    weights: list[np.ndarray]
    pre_activations: list[np.ndarray]
    gradients: list[np.ndarray]


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    images = jnp.asarray(dataset.train.images[: config.batch_size])
    images = jnp.asarray(normalize(images, dataset.mean, dataset.std))
    labels = jnp.asarray(dataset.train.labels[: config.batch_size])

    def loss_fn(params):
        logits, outputs = mlp.apply(params, images, lambda x: x, return_pre_activations=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), outputs

    params = mlp.init(jax.random.key(0), SIZES, kernel_init=constant(VALUE))
    gradients, outputs = jax.device_get(jax.jit(jax.grad(loss_fn, has_aux=True))(params))
    weights = [np.asarray(layer["kernel"]) for layer in params]
    return Result(weights, list(outputs), [layer["kernel"] for layer in gradients])


def distinct(values: np.ndarray) -> int:
    """Count the values that differ by more than rounding, 1e-5 of the largest."""
    return len(np.unique(np.round(values / (np.abs(values).max() or 1.0), 5)))


def check(result: Result) -> list[Claim]:
    variances = np.array([np.var(z, dtype=np.float64) for z in result.pre_activations])
    error = variances[1:] / variances[:-1] / np.square(VALUE * np.array(SIZES[1:-1])) - 1
    first, *middle, last = result.gradients
    return [
        at_most(
            "distinct gradients in each middle layer",
            max(map(distinct, middle)),
            1,
            headline=True,
        ),
        at_most("distinct gradients of a pixel, first layer", max(map(distinct, first)), 1),
        at_most("distinct gradients of a class, last layer", max(map(distinct, last.T)), 1),
        # Ten classes, and hundreds of pixels that are not black in all images.
        at_least("distinct gradients between the classes", distinct(last[0]), 10),
        at_least("distinct gradients between the pixels", distinct(first[:, 0]), 100),
        # A sum of 512 terms in single precision is off by at most 512 eps = 6e-5.
        at_most("variance ratios against (.005 d_in)^2, relative error", np.abs(error).max(), 1e-4),
    ]


def plot(result: Result):
    rows = {
        "weight": result.weights,
        "pre-activation": result.pre_activations,
        "gradient": result.gradients,
    }
    titles = [f"({fan_in} -> {fan_out})" for fan_in, fan_out in pairwise(SIZES)]
    title = f"All weights {VALUE}: a middle layer has one single gradient"
    return {"constant": plot_distributions(rows, titles=titles, title=title)}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
