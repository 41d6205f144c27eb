"""The program that runs a group of pairs, and how much memory it takes."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from typing_extensions import TypeAliasType

from jaxopt_tut.jaxprs import closure_convert
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.training.scalars import check_call
from jaxopt_tut.training.sweeps.pairs import Pairs
from jaxopt_tut.types import PyTree

Run = TypeAliasType("Run", Callable[..., PyTree])
"""`run(hyperparameters, key) -> tree of arrays`, of one configuration and one key."""


LARGE = 2**20
"""Bytes from which an array that `run` closes over is an argument of the program: XLA folds
constants, which takes seconds; small ones stay what they are in `jax.jit(run)`, to the bit."""


@dataclasses.dataclass(frozen=True)
class Traced:
    """A run of one pair as a function of arrays alone."""

    function: Callable[..., list[Any]]
    """From one pair's leaves and key, and what is closed over, to the leaves of the result."""
    arguments: tuple[Any, Any]
    """Shapes of the first two."""
    closed: list[Any]
    structure: Any
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    """Of the result's leaves; keys are there as their words."""
    implementations: tuple[Any, ...]
    """Of those leaves that are keys, None of the others."""

    @property
    def large(self) -> list[Any]:
        """What the program takes as arguments of what is closed over."""
        return [array for array in self.closed if _is_large(array)]

    def call(self, leaves: Sequence[Any], words: Any, large: Sequence[Any]) -> list[Any]:
        """Run one pair."""
        rest = iter(large)
        closed = [next(rest) if _is_large(array) else array for array in self.closed]
        return self.function(list(leaves), words, *closed)

    def digest(self) -> str:
        """Digest what is computed: the jaxpr, but for addresses, and what it closes over."""
        jaxpr = str(jax.make_jaxpr(self.function)(*self.arguments, *self.closed))
        text = re.sub(r"0x[0-9a-f]+", "", f"{jaxpr} {self.structure} {self.implementations}")
        return digest_of_arrays([_words(array) for array in self.closed], text).hexdigest()


def trace(run: Run, pairs: Pairs) -> Traced:
    """Trace a run for one pair, and say what went wrong."""
    if not callable(run):
        raise TypeError(
            f"sweep needs a function run(hyperparameters, key), got {type(run).__name__}."
        )
    check_call("sweep", "run", run, ("hyperparameters", "key"))
    structure: list[Any] = []
    kinds: list[Any] = []

    def flat(leaves: list[Any], words: Any) -> list[Any]:
        out = run(pairs.tree(leaves), pairs.wrapped(words))
        found, structure[:] = map(jnp.asarray, jax.tree.leaves(out)), [jax.tree.structure(out)]
        found = list(found)
        kinds[:] = [jax.random.key_impl(x) if _is_key(x) else None for x in found]
        return [_words(x) for x in found]

    leaves, words = pairs.take(np.zeros(1, int))
    one = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves]
    key = jax.ShapeDtypeStruct(words.shape[1:], words.dtype)
    try:
        function, closed = closure_convert(flat, one, key)
        shapes = jax.eval_shape(function, one, key, *closed)
    except Exception as error:
        given = ", ".join(
            f"{name}: {x.dtype}{list(x.shape)}" for name, x in zip(pairs.names, one, strict=True)
        )
        first = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"sweep could not trace run(hyperparameters, key) for one configuration ({given}): "
            f"{type(error).__name__}: {first}."
        ) from error
    if any(is_traced(array) for array in closed):
        raise TypeError("sweep runs on the host, got a run that closes over a traced array.")
    if not shapes:
        raise ValueError("sweep needs run to return at least one array, got none.")
    return Traced(function, (one, key), closed, structure[0], tuple(shapes), tuple(kinds))


def digest_of_arrays(arrays: Sequence[Any], head: str) -> Any:
    """Digest a text, and dtypes, shapes and numbers of arrays."""
    digest = hashlib.sha256(head.encode())
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def _words(array: Any) -> Any:
    """Return the numbers that a key is made of, and other arrays as they are."""
    return jax.random.key_data(array) if _is_key(array) else array


def _is_large(array: Any) -> bool:
    return not _is_key(array) and array.nbytes >= LARGE


class Programs:
    """Programs of `lanes` pairs a device, compiled once each, and what their results are."""

    def __init__(self, traced: Traced, pairs: Pairs, mesh: Mesh | None):
        """Compile nothing yet."""
        self.traced, self.pairs = traced, pairs
        self.mesh = mesh and Mesh(
            mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim
        )
        self.num_devices = mesh.shape[mesh.axis_names[0]] if mesh is not None else 1
        self._compiled: dict[int, jax.stages.Compiled] = {}
        self._large = self._put(traced.large, split=False)

    @property
    def devices(self) -> list[Any]:
        """Those of this process that take part."""
        if self.mesh is None:
            return jax.local_devices()[:1]
        return [d for d in self.mesh.devices.flat if d.process_index == jax.process_index()]

    def _sharding(self, split: bool) -> NamedSharding | None:
        if self.mesh is None:
            return None
        return NamedSharding(self.mesh, PartitionSpec(*self.mesh.axis_names[:1] if split else ()))

    def _put(self, arrays: Sequence[Any], *, split: bool) -> list[Any]:
        """Lay arrays over the devices; of those of other processes this one puts nothing."""
        sharding = self._sharding(split)
        if sharding is None:
            return list(arrays)
        return [
            jax.make_array_from_callback(np.shape(a), sharding, np.asarray(a).__getitem__)
            for a in arrays
        ]

    def compiled(self, lanes: int) -> jax.stages.Compiled:
        """Return the program of a group; with one lane it is that of `run` itself."""
        if lanes not in self._compiled:
            leaves, words = self.pairs.take(np.zeros(lanes * self.num_devices, int))
            given = self._put(leaves, split=True), *self._put([words], split=True)
            lowered = jax.jit(self._group(lanes)).lower(self._large, *given)
            self._compiled[lanes] = lowered.compile()
        return self._compiled[lanes]

    def _group(self, lanes: int) -> Callable[..., list[Any]]:
        call = self.traced.call

        def group(large: list[Any], leaves: list[Any], words: Any) -> list[Any]:
            if lanes == 1:
                out = call([leaf[0] for leaf in leaves], words[0], large)
                return [leaf[None] for leaf in out]
            return jax.vmap(lambda leaves, words: call(leaves, words, large))(leaves, words)

        if self.mesh is None:
            return group
        split = PartitionSpec(self.mesh.axis_names[0])
        return jax.shard_map(
            group,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), split, split),
            out_specs=split,
            check_vma=False,
        )

    def run_pairs(self, lanes: int, indices: np.ndarray) -> list[jax.Array]:
        """Start a group: `lanes` pairs a device, one device after the other."""
        return self.start(lanes, *self.pairs.take(indices))

    def start(self, lanes: int, leaves: Sequence[Any], words: Any) -> list[jax.Array]:
        """Start a group of given leaves and keys."""
        (words,) = self._put([words], split=True)
        return self.compiled(lanes)(self._large, self._put(leaves, split=True), words)

    def fetch(self, arrays: list[jax.Array]) -> list[np.ndarray]:
        """Bring results to the host, to that of every process."""
        if self.mesh is not None and not all(x.is_fully_addressable for x in arrays):
            arrays = jax.jit(lambda x: x, out_shardings=self._sharding(split=False))(arrays)
            return [np.asarray(x.addressable_data(0)) for x in arrays]
        return jax.device_get(arrays)

    def run_chunks(self, lanes: int, chunk: int, chunks: Sequence[int]) -> list[list[np.ndarray]]:
        """Return the results of as many chunks as there are devices, or fewer."""
        padded = [*chunks, *[chunks[-1]] * (self.num_devices - len(chunks))]
        starts = np.array(padded)[:, None] * chunk
        groups = []
        for first in range(0, chunk, lanes):
            indices = (starts + np.arange(first, first + lanes)).reshape(-1)
            if groups and indices.min() >= self.pairs.size:  # of padding alone
                groups.append(groups[-1])
            else:
                groups.append(self.run_pairs(lanes, indices))
        fetched = [self.fetch(group) for group in groups]
        return [
            [
                np.concatenate([leaf[k * lanes : (k + 1) * lanes] for leaf in leaves])
                for leaves in zip(*fetched, strict=True)
            ]
            for k in range(len(chunks))
        ]

    def bytes_needed(self, lanes: int, chunk: int) -> int:
        """Return what a chunk takes on a device, as the compiler says."""
        memory = self.compiled(lanes).memory_analysis()
        if memory is None:
            return 0
        fixed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        return fixed + memory.output_size_in_bytes * -(-chunk // lanes)

    def agreed(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers that the process of the first device has."""
        if self.mesh is None or not self.mesh.is_multi_process:
            return list(numbers)
        return [int(x) for x in self._all_rows(numbers)[0]]

    def known_to_all(self, flags: Sequence[bool]) -> list[bool]:
        """Return which flags are true in every process."""
        if self.mesh is None or not self.mesh.is_multi_process or not len(flags):
            return list(flags)
        return [bool(x) for x in self._all_rows([int(f) for f in flags]).min(axis=0)]

    def _all_rows(self, numbers: Sequence[int]) -> np.ndarray:
        """Gather a row a device, each its process's."""
        row = np.asarray(numbers, np.int32)
        rows = np.broadcast_to(row, (self.num_devices, len(row)))
        return self.fetch(self._put([rows], split=True))[0]


def available_bytes(devices: Sequence[Any]) -> int | None:
    """Return the memory that is free for one device, None where nobody says."""
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if devices[0].platform != "cpu" or not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
