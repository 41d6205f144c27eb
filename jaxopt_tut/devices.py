"""Where arrays lie."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from typing_extensions import TypeAliasType

from jaxopt_tut.types import PyTree

__all__ = ["Devices", "placed", "replicated", "with_auto_axes"]

Devices = TypeAliasType("Devices", Mesh)
"""A mesh of `jax.make_mesh`."""


def with_auto_axes(mesh: Mesh) -> Mesh:
    """Let the compiler distribute the program of a step, whatever types the axes have."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)


def placed(tree: PyTree, sharding: Any) -> PyTree:
    """Put a tree on devices, some of them of other processes perhaps, which do the same.

    A sharding, or a tree of them.
    """
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

    def put(leaf: Any, sharding: NamedSharding) -> Any:
        if not is_key(leaf) or sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        # to devices elsewhere only its words can go
        words = jax.device_put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))

    if isinstance(sharding, NamedSharding):
        return jax.tree.map(lambda leaf: put(leaf, sharding), tree)
    return jax.tree.map(put, tree, sharding)


def replicated(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Put a tree on all devices of a mesh, if there is one."""
    return tree if mesh is None else placed(tree, NamedSharding(mesh, PartitionSpec()))
