"""What is random in a race, drawn in programs of its own: starts, and the order of the examples.

Inside of the program that trains, random numbers would take three quarters of its compile time, and
be drawn again for every optimizer and rate.
"""

from functools import partial
from typing import NamedTuple
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from jaxopt_tut.training.data import DeviceData, epoch_order, num_examples
from jaxopt_tut.training.races.problem import Problem
from jaxopt_tut.trees import strong
from jaxopt_tut.types import Params, PRNGKey, PyTree


class Draws(NamedTuple):
    """The runs of a problem before an optimizer has a part in them."""

    starts: Params
    """Initial parameters, the first axis the seeds."""
    batches: PyTree
    """Of (seeds, evaluations, steps between them, ...): indices of examples, or drawn batches."""


def draw(
    problem: Problem,
    data: DeviceData | None,
    key: PRNGKey,
    seeds: Int[np.ndarray, " seeds"],
    steps: int,
    every: int,
) -> Draws:
    """Draw the starts and the batches of every seed.

    They depend on the key, the problem's name and the seed alone, so that a race with more of
    either repeats them.
    """
    own = jax.random.fold_in(key, crc32(problem.name.encode()))
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.fold_in(own, seed)))(seeds)
    starts = jax.jit(lambda keys: jax.lax.map(lambda k: strong(problem.init(k)), keys))(keys[:, 0])
    if data is None:
        each = jax.vmap(lambda key: jax.random.split(key, steps))(keys[:, 1])
        batches = jax.jit(lambda keys: jax.lax.map(jax.vmap(problem.data), keys))(each)
    else:
        batches = _orders(keys[:, 1], data, problem.batch_size, steps)
    parted = lambda leaf: leaf.reshape(len(seeds), steps // every, every, *leaf.shape[2:])
    return Draws(starts, jax.tree.map(parted, batches))


@partial(jax.jit, static_argnums=(2, 3))
def _orders(
    keys: Key[Array, " seeds"], data: DeviceData, batch_size: int, steps: int
) -> Int[Array, "seeds steps batch"]:
    """Return the examples of each step in the orders of `fit`."""
    length = num_examples(data)
    num_epochs = -(-steps // (length // batch_size))

    def of_seed(key: PRNGKey) -> Int[Array, "steps batch"]:
        epochs = jnp.arange(num_epochs, dtype="uint32")
        orders = jax.lax.map(lambda epoch: epoch_order(key, epoch, length, batch_size), epochs)
        return orders.reshape(-1, batch_size)[:steps]

    return jax.lax.map(of_seed, keys)
