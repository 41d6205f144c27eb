"""What makes a run this one and no other, as far as it can be seen from outside."""

import hashlib
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.training.data import AnyKey
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

CHUNK_BYTES = 2**26
"""Of an array, about, that are copied from the device at a time for its digest."""


def fingerprint(
    key: AnyKey,
    batch_size: int,
    size: int,
    data: PyTree,
    *,
    accumulate: int,
    evaluates: bool,
    probes: Collection[str],
    probe_every: int,
) -> dict[str, Any]:
    """Say what a checkpoint has to agree with; the loss and the optimizer cannot be compared."""
    return {
        "key": _words(key),
        "batch size": batch_size,
        "number of micro-batches": accumulate,
        "number of examples": size,
        "data": data_digest(data),
        "evaluation": evaluates,
        # None of runs from before there were any, too
        "set of probes": sorted(probes) or None,
        "probe_every": probe_every if probes else None,
    }


def _words(key: AnyKey) -> list[Any]:
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if is_typed else key
    # an old key draws the same numbers as a typed one
    return np.asarray(words).tolist()


def data_digest(data: PyTree) -> str:
    """Return the SHA-256 of names, shapes, dtypes and every byte, in 1 to 2 s a GB."""
    digest = hashlib.sha256()
    for name, leaf in named_leaves(data):
        digest.update(f"{name} {tuple(leaf.shape)} {leaf.dtype};".encode())
        for rows in _chunks(leaf):
            digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _chunks(leaf: Any) -> Iterator[np.ndarray]:
    """Copy some rows after others to the host: JAX would keep a copy of the whole array there."""
    if not leaf.ndim or leaf.nbytes <= CHUNK_BYTES or isinstance(leaf, np.ndarray):
        yield np.asarray(leaf)
        return
    num_rows = max(1, CHUNK_BYTES * len(leaf) // leaf.nbytes)
    for start in range(0, len(leaf), num_rows):
        size = min(num_rows, len(leaf) - start)
        yield np.asarray(jax.lax.dynamic_slice_in_dim(leaf, start, size))
