"""All pairs of a configuration and a key, in one order, and the chunks they are cut into."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped

from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.training.data import on_device
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

Indices = Int[np.ndarray, "lanes"]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Configurations and keys on the host; pair `configuration * num_keys + key` is one of each."""

    leaves: tuple[Shaped[np.ndarray, "..."], ...]
    """Of the tree of hyper-parameters; the configurations are their first axis."""
    treedef: Any
    names: tuple[str, ...]
    keys: Shaped[np.ndarray, "keys ..."]
    """Words of the keys."""
    implementation: str | None
    """Of typed keys; None of those of `jax.random.PRNGKey`."""

    @property
    def num_configurations(self) -> int:
        """Length of every leaf."""
        return len(self.leaves[0])

    @property
    def size(self) -> int:
        """Number of pairs."""
        return self.num_configurations * len(self.keys)

    def take(self, indices: Indices) -> tuple[list[np.ndarray], np.ndarray]:
        """Return hyper-parameters and keys of some pairs; behind the last one it is repeated."""
        indices = np.minimum(indices, self.size - 1)
        configurations, keys = np.divmod(indices, len(self.keys))
        return [leaf[configurations] for leaf in self.leaves], self.keys[keys]

    def tree(self, leaves: Any) -> PyTree:
        """Put leaves into the tree of the hyper-parameters."""
        return jax.tree.unflatten(self.treedef, leaves)

    def wrapped(self, words: Any) -> Any:
        """Make keys of their words."""
        if self.implementation is None:
            return jnp.asarray(words)
        return jax.random.wrap_key_data(words, impl=self.implementation)


def as_pairs(caller: str, hyperparameters: PyTree, keys: Any) -> Pairs:
    """Look at what a sweep is over, and copy it to the host."""
    traced = [leaf for leaf in (*jax.tree.leaves(hyperparameters), keys) if is_traced(leaf)]
    if traced or is_tracing():
        found = (
            f"a traced {jax.typeof(traced[0]).str_short()}" if traced else "a call that is traced"
        )
        raise TypeError(
            f"{caller} runs on the host, got {found}; inside of jit, vmap or grad take jax.vmap or "
            "jax.lax.map of run."
        )
    named = named_leaves(hyperparameters)
    if not named:
        raise ValueError(f"{caller} needs at least one hyper-parameter, got none.")
    for name, leaf in named:
        if not hasattr(leaf, "shape") or not leaf.shape or not leaf.shape[0]:
            found = f"shape {leaf.shape}" if hasattr(leaf, "shape") else repr(leaf)
            raise ValueError(
                f"{caller} needs hyperparameters with the configurations along their first axis, "
                f"got {found} at {name!r}: grid(...) and sample(...) make them."
            )
    (first, leading), *others = named
    for name, leaf in others:
        if leaf.shape[0] != leading.shape[0]:
            raise ValueError(
                f"{caller} needs hyperparameters of one length, got {leading.shape[0]} at "
                f"{first!r} and {leaf.shape[0]} at {name!r}."
            )
    leaves = tuple(np.asarray(on_device(caller, *pair)) for pair in named)
    implementation = None
    if jnp.issubdtype(getattr(keys, "dtype", np.float32), jax.dtypes.prng_key):
        implementation = str(jax.random.key_impl(keys))
        is_axis = keys.ndim == 1
        words = np.asarray(jax.random.key_data(keys))
    else:
        words = np.asarray(keys)
        is_axis = words.dtype == np.uint32 and words.ndim == 2
    if not is_axis or not len(words):
        found = f"{keys.dtype}{list(keys.shape)}" if hasattr(keys, "shape") else repr(keys)
        raise ValueError(
            f"{caller} needs keys along one axis, jax.random.split(key, num), got {found}."
        )
    names = tuple(name for name, _ in named)
    return Pairs(leaves, jax.tree.structure(hyperparameters), names, words, implementation)
