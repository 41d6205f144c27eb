"""What makes a run this one and no other, as far as it can be seen from outside."""

import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.training.data import AnyKey
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

MOST_BYTES = 2**24
"""Of the data, about, that are read for their digest: 30 ms."""


def fingerprint(
    key: AnyKey, batch_size: int, size: int, data: PyTree, *, accumulate: int, evaluates: bool
) -> dict[str, Any]:
    """Say what a checkpoint has to agree with; the loss and the optimizer cannot be compared."""
    return {
        "key": _words(key),
        "batch size": batch_size,
        "number of micro-batches": accumulate,
        "number of examples": size,
        "data": data_digest(data),
        "evaluation": evaluates,
    }


def _words(key: AnyKey) -> list[Any]:
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if is_typed else key
    # an old key draws the same numbers as a typed one
    return np.asarray(words).tolist()


def data_digest(data: PyTree) -> str:
    """Return the SHA-256 of names, shapes and dtypes, and of the examples, of many every k-th."""
    total = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(data))
    every = max(1, -(-total // MOST_BYTES))
    digest = hashlib.sha256()
    for name, leaf in named_leaves(data):
        digest.update(f"{name} {tuple(leaf.shape)} {leaf.dtype};".encode())
        if leaf.ndim:
            digest.update(np.ascontiguousarray(leaf[::every]).tobytes())
        else:
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
