"""The program that runs a group of pairs, and how much memory it takes."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
        """Digest the jaxpr, but for addresses, and what it closes over; refuse Python in it."""
        jaxpr = str(jax.make_jaxpr(self.function)(*self.arguments, *self.closed))
        if callback := re.search(r"\b(pure_callback|io_callback)\[", jaxpr):
            raise ValueError(
                "sweep needs a run without callbacks to keep chunks in a directory, since it could "
                f"not tell another function there, got one that calls {callback[1]}; leave "
                "directory out."
            )
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
    """Programs of `lanes` pairs, compiled once for each device that they run on.

    They are not sharded: XLA compiles a program over several devices in another way than that of
    one, and with `jax.vmap` other bits come out.
    """

    def __init__(self, traced: Traced, pairs: Pairs):
        """Compile nothing yet."""
        self.traced, self.pairs = traced, pairs
        self._jitted: dict[int, Any] = {}
        self._compiled: dict[tuple[int, Any], jax.stages.Compiled] = {}
        self._large: dict[Any, list[Any]] = {}

    def compiled(self, lanes: int, device: Any = None) -> jax.stages.Compiled:
        """Return the program of a group; with one lane it is that of `run` itself."""
        if (lanes, device) not in self._compiled:
            jitted = self._jitted.setdefault(lanes, jax.jit(self._group(lanes)))
            given = _on(device, self.pairs.take(np.zeros(lanes, int)))
            lowered = jitted.lower(self._closed(device), *given)
            self._compiled[lanes, device] = lowered.compile()
        return self._compiled[lanes, device]

    def _group(self, lanes: int) -> Callable[..., list[Any]]:
        call = self.traced.call

        def group(large: list[Any], leaves: list[Any], words: Any) -> list[Any]:
            if lanes == 1:
                out = call([leaf[0] for leaf in leaves], words[0], large)
                # constants of the run are Python's numbers here
                return [jnp.asarray(leaf)[None] for leaf in out]
            return jax.vmap(lambda leaves, words: call(leaves, words, large))(leaves, words)

        return group

    def _closed(self, device: Any) -> list[Any]:
        if device not in self._large:
            self._large[device] = _on(device, self.traced.large)
        return self._large[device]

    def start(
        self, lanes: int, leaves: list[Any], words: Any, device: Any = None
    ) -> list[jax.Array]:
        """Start a group of given hyper-parameters and keys."""
        program = self.compiled(lanes, device)
        return program(self._closed(device), *_on(device, (leaves, words)))

    def run_chunk(
        self,
        lanes: int,
        leaves: list[Any],
        words: Any,
        device: Any = None,
        num_used: int | None = None,
    ) -> list[np.ndarray]:
        """Run the pairs of a chunk group by group; groups of padding alone repeat the last."""
        groups = []
        for at in range(0, len(words), lanes):
            if num_used is not None and at >= num_used and groups:
                groups.append(groups[-1])
            else:
                cut = slice(at, at + lanes)
                groups.append(self.start(lanes, [leaf[cut] for leaf in leaves], words[cut], device))
        return [np.concatenate(parts) for parts in zip(*jax.device_get(groups), strict=True)]

    def bytes_needed(self, lanes: int, chunk: int, device: Any = None) -> int:
        """Return what a chunk takes on a device, as the compiler says."""
        memory = self.compiled(lanes, device).memory_analysis()
        if memory is None:
            return 0
        fixed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        return fixed + memory.output_size_in_bytes * -(-chunk // lanes)


def _on(device: Any, tree: PyTree) -> PyTree:
    """Put arrays on a device, or leave them to JAX."""
    return tree if device is None else jax.device_put(tree, device)
