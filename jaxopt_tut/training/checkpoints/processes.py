"""Several processes of one run: the first one writes, and all do so at the same step."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from jaxopt_tut.types import PyTree


def is_first() -> bool:
    """Tell whether this is the process that writes."""
    return jax.process_index() == 0


def most(*numbers: int) -> tuple[int, ...]:
    """Return the largest of each number over all processes, which all have to ask."""
    if jax.process_count() == 1:
        return numbers
    mesh = Mesh(np.array(jax.devices()), ("device",))
    rows = jax.make_array_from_callback(
        (mesh.size, len(numbers)),
        NamedSharding(mesh, PartitionSpec("device")),
        lambda _: np.array([numbers], np.int32),
    )
    return tuple(np.asarray(_largest(rows, NamedSharding(mesh, PartitionSpec()))).tolist())


@partial(jax.jit, static_argnames="everywhere")
def _largest(
    rows: Int[Array, "devices numbers"], everywhere: NamedSharding
) -> Int[Array, "numbers"]:
    return jax.lax.with_sharding_constraint(jnp.max(rows, axis=0), everywhere)


def whole(tree: PyTree) -> PyTree:
    """Fetch what is elsewhere, leaf by leaf; all processes have to ask."""
    return jax.tree.map(_whole, tree)


def _whole(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        impl = jax.random.key_impl(leaf)
        return jax.random.wrap_key_data(_whole(jax.random.key_data(leaf)), impl=impl)
    if not leaf.is_fully_replicated:
        assert isinstance(leaf.sharding, NamedSharding)  # as `shard=` lays out
        leaf = _gathered(leaf, NamedSharding(leaf.sharding.mesh, PartitionSpec()))
    return np.asarray(leaf)


@partial(jax.jit, static_argnames="everywhere")
def _gathered(leaf: Array, everywhere: NamedSharding) -> Array:
    return jax.lax.with_sharding_constraint(leaf, everywhere)
