"""Networks trained from one start by three optimizers, which experiments share in a process."""

import functools
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._images import load_coarse
from jaxopt_tut.models import mlp
from jaxopt_tut.optimizers import adam, momentum, sgd
from jaxopt_tut.training import fit

RATES = {"SGD": 0.1, "momentum": 0.1, "Adam": 1e-3}
"""Those of the tutorial's comparison."""
OPTIMIZERS = {"SGD": sgd, "momentum": partial(momentum, decay=0.9), "Adam": adam}


class Setting(NamedTuple):
    """What is trained, on what, for how long; it has a hash."""

    data: Literal["mini", "full"]
    block: int
    """Pixels along each side of the squares that images are averaged over."""
    hidden: tuple[int, ...]
    num_images: int
    num_epochs: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return ((28 // self.block) ** 2, *self.hidden, 10)


def cross_entropy(params, batch):
    images, labels = batch
    logits = mlp.apply(params, images)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def images_of(setting: Setting) -> tuple[jax.Array, jax.Array]:
    images, labels = load_coarse(setting.data, setting.block)
    return images[: setting.num_images], labels[: setting.num_images]


@functools.lru_cache(maxsize=64)
def start(setting: Setting, seed: int):
    """Draw the network that all optimizers start from."""
    return mlp.init(jax.random.key(seed), setting.sizes)


@functools.cache
def _built(name: str):
    return OPTIMIZERS[name](RATES[name])  # one object, so that its program is found again


@functools.lru_cache(maxsize=64)
def trained(setting: Setting, name: str, seed: int):
    """Train it; return the parameters and the loss of every step."""
    result = fit(
        cross_entropy, start(setting, seed), _built(name), images_of(setting),
        batch_size=128, num_epochs=setting.num_epochs, key=jax.random.key(seed), progress=False,
    )  # fmt: skip
    return result.params, np.asarray(result.history.steps["loss"])
