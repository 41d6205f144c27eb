"""Images that small networks learn from in seconds."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import datasets


def load_coarse(data: Literal["mini", "full"], block: int) -> tuple[jax.Array, jax.Array]:
    """Return the training images averaged over squares of `block` by `block` pixels, and labels.

    Each image is a row; over all of them the mean is 0 and the variance 1.
    """
    split = datasets.load(data).train
    side = 28 // block
    squares = np.asarray(split.images, np.float32).reshape(-1, side, block, side, block)
    images = squares.mean(axis=(2, 4)).reshape(-1, side**2)
    return jnp.asarray((images - images.mean()) / images.std()), jnp.asarray(split.labels)
