"""Arrays on disk: by orbax, with what orbax refuses beside it, and a digest of each."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_tut.training.checkpoints.folder import digest
from jaxopt_tut.trees import path_name
from jaxopt_tut.types import PyTree

Leaf = dict[str, Any]
"""What the JSON says of a leaf: path, name, shape, dtype, is_weak, impl (of keys), sha256."""


def describe(trees: Mapping[str, PyTree]) -> tuple[list[Leaf], list[np.ndarray]]:
    """Fetch the leaves of some trees and say what each of them is."""
    leaves, values = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(trees)):
        value = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        values.append(value)
        leaves.append({
            "path": jax.tree_util.keystr(path),
            "name": path_name(path),
            **_kind(leaf),
            "impl": str(jax.random.key_impl(leaf)) if is_key(leaf) else None,
            "sha256": digest_array(value),
        })  # fmt: skip
    return leaves, values


def is_key(leaf: Any) -> bool:
    """Tell typed keys, which are no numbers."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _kind(leaf: Any) -> Leaf:
    """Say what a leaf is, of an array or of its shape alone."""
    if not hasattr(leaf, "dtype"):
        leaf = jnp.asarray(leaf)
    return {
        "shape": list(leaf.shape),
        "dtype": str(leaf.dtype),
        "is_weak": bool(getattr(leaf, "weak_type", False)),
    }


def digest_array(value: np.ndarray) -> str:
    """Return the SHA-256 of the bytes of an array, in C order."""
    return digest(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _names(leaves: Sequence[Leaf]) -> dict[str, int]:
    """Name what orbax writes by numbers; it refuses arrays without elements."""
    return {f"{at:05d}": at for at, leaf in enumerate(leaves) if math.prod(leaf["shape"])}


def write_arrays(folder: Path, leaves: Sequence[Leaf], values: Sequence[np.ndarray]) -> None:
    """Write arrays into a new folder."""
    chosen = {name: values[at] for name, at in _names(leaves).items()}
    with _checkpointer() as checkpointer:
        try:
            checkpointer.save(folder, chosen)
        except ValueError as error:  # so orbax reports a full disk
            if number := re.search(r"os_error_code='(\d+)'", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise


def _checkpointer() -> Any:
    """Return orbax's, which does not wait for other processes: that would be among their steps."""
    import orbax.checkpoint as ocp

    me, options = jax.process_index(), ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        options = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
        )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def read_arrays(folder: Path, leaves: Sequence[Leaf]) -> list[np.ndarray]:
    """Read what was written, as NumPy arrays."""
    import orbax.checkpoint as ocp

    names = _names(leaves)
    with _checkpointer() as checkpointer:
        how = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        found = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=how))
    values = [np.zeros(leaf["shape"], jnp.dtype(_stored_dtype(leaf))) for leaf in leaves]
    for name, at in names.items():
        values[at] = np.asarray(found[name])
    return values


def _stored_dtype(leaf: Leaf) -> str:
    return "uint32" if leaf["dtype"].startswith("key<") else leaf["dtype"]


def place(leaf: Leaf, value: np.ndarray, like: Any) -> Array | np.ndarray:
    """Put an array where another one is, over the same devices, with the same type."""
    if isinstance(like, np.ndarray | np.generic):
        return value
    sharding = getattr(like, "sharding", None)
    if is_key(like):
        placed = jax.random.wrap_key_data(jnp.array(value), impl=leaf["impl"])
        return jax.device_put(placed, sharding) if _is_committed(like) else placed
    if sharding is not None and not sharding.is_fully_addressable:
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
    # a copy: the steps donate their buffers, and this one is NumPy's
    placed = jnp.array(value)
    if leaf["is_weak"] and placed.dtype in (jnp.float32, jnp.int32, jnp.complex64):
        kind = {"f": float, "i": int, "c": complex}[placed.dtype.kind]
        placed = jax.lax.convert_element_type(placed, kind)
    return jax.device_put(placed, sharding) if _is_committed(like) else placed


def _is_committed(like: Any) -> bool:
    """Tell whether an array is bound to its devices, as a shape with a sharding means to be."""
    if getattr(like, "sharding", None) is None:
        return False
    return not isinstance(like, jax.Array) or like.committed


def fitted(stored: Mapping[str, tuple[Leaf, np.ndarray]], like: PyTree, caller: str,
           where: str) -> PyTree:  # fmt: skip
    """Put stored leaves into a tree of the same leaves, or say which does not fit."""
    expected = jax.tree_util.tree_leaves_with_path(like)
    paths = {jax.tree_util.keystr(path) for path, _ in expected}
    # also of a tree without leaves, where another has some
    tops = tuple(jax.tree_util.keystr((jax.tree_util.DictKey(name),)) for name in like)
    placed = []
    for path, one in expected:
        found = stored.get(jax.tree_util.keystr(path))
        if found is None:
            more = [leaf["name"] for at, (leaf, _) in stored.items()
                    if at not in paths and at.startswith(tops)]  # fmt: skip
            instead = f"; there is {more[0]!r}" if more else ""
            raise ValueError(
                f"{caller} needs a checkpoint with the leaf {path_name(path)!r}, "
                f"got {where} without{instead}."
            )
        leaf, value = found
        kind = _kind(one)
        if (leaf["shape"], leaf["dtype"]) != (kind["shape"], kind["dtype"]):
            raise ValueError(
                f"{caller} needs {kind['dtype']}{kind['shape']} at {path_name(path)!r}, "
                f"got {leaf['dtype']}{leaf['shape']} in {where}."
            )
        placed.append((leaf, value, one))
    for at, (leaf, _) in stored.items():
        if at.startswith(tops) and at not in paths:
            raise ValueError(
                f"{caller} needs a checkpoint without the leaf {leaf['name']!r}, got {where} with."
            )
    return jax.tree.unflatten(jax.tree.structure(like), [place(*one) for one in placed])
