"""Data in chunks, and the mean over all examples of what is computed of a chunk at a time.

Two drivers, one step: where nothing is traced a Python loop of compiled steps with donated sums
(on CPU a loop of XLA around the gradient of a convolution is 7 to 9 times slower), in a trace a
`scan`. Data that a generator on the host makes go to the device a chunk at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from jaxopt_tut import control_flow
from jaxopt_tut.counts import whole_number
from jaxopt_tut.datasets.arrays import (
    Data,
    DeviceData,
    OffDevice,
    averaging_dtype,
    check_array,
    check_sizes,
    normalized,
    num_examples,
    on_device,
    parted,
)
from jaxopt_tut.devices import replicated, with_auto_axes
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.trees import named_leaves, path_name
from jaxopt_tut.types import Batch, Number, PyTree

__all__ = ["Chunk", "Chunks", "map_chunks", "mean_over", "read_chunks"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chunk:
    """Some examples of a part of the data.

    Attributes:
      data: The part.
      start: The first example, or the chunk of stacked data.
      size: How many; None for all of the part, as it came.
      is_stacked: Whether chunks lie along the first axis and examples along the second.
    """

    data: DeviceData
    start: Number = 0
    size: int | None = field(default=None, metadata={"static": True})
    is_stacked: bool = field(default=False, metadata={"static": True})

    def batch(self) -> Batch:
        """Cut the examples out; images are normalised behind the cut, so only bytes are moved."""
        arrays = self.data.arrays
        if self.is_stacked:
            cut = partial(jax.lax.dynamic_index_in_dim, index=self.start, keepdims=False)
            arrays = jax.tree.map(cut, arrays)
        elif self.size is not None:
            cut = partial(
                jax.lax.dynamic_slice_in_dim, start_index=self.start, slice_size=self.size
            )
            arrays = jax.tree.map(cut, arrays)
        return normalized(arrays, self.data.normalization)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Part:
    """Data on the device that are cut into chunks of one size, and a smaller one of the rest.

    Attributes:
      data: Arrays, with examples in the first axis if they are counted.
      size: Examples in a chunk; None for one chunk of all, as it came.
      is_counted: Whether there is an axis of examples.
      is_stacked: Whether chunks lie along the first axis and examples along the second: slices of
        an axis that is split over devices would be sent about.
      count: How many examples what was made of them stands for; None for the examples themselves.
    """

    data: DeviceData
    size: int | None = field(metadata={"static": True})
    is_counted: bool = field(metadata={"static": True})
    is_stacked: bool = field(default=False, metadata={"static": True})
    count: int | None = field(default=None, metadata={"static": True})

    @property
    def num_examples(self) -> int:
        """How many examples there are; what has no axis of them is one."""
        if self.count is not None:
            return self.count
        if not self.is_counted:
            return 1
        rows = num_examples(self.data)
        return rows * self.size if self.is_stacked and self.size is not None else rows

    @property
    def num_full(self) -> int:
        """How many chunks are of full size."""
        return 1 if self.size is None else self.num_examples // self.size

    def chunk(self, index: Number) -> tuple[Chunk, int]:
        """Return a chunk of full size, and how many examples it has."""
        if self.size is None:
            return Chunk(self.data), self.num_examples
        start = index if self.is_stacked else index * self.size
        return Chunk(self.data, start, self.size, self.is_stacked), self.size

    def rest(self) -> tuple[Chunk, int] | None:
        """Return the last, smaller chunk, if there is one."""
        left = 0 if self.size is None else self.num_examples % self.size
        return (Chunk(self.data, self.num_examples - left, left), left) if left else None


@dataclass(frozen=True, eq=False)
class HostBatches:
    """Batches that the host yields whenever it is asked; equal to itself alone."""

    batches: Iterable[Data]
    caller: str
    batch_size: int | None
    mesh: Mesh | None

    def parts(self) -> Iterator[Part]:
        """Bring one batch after the other to the device."""
        for batch in self.batches:
            size = self.batch_size
            yield from _placed(self.caller, _part(self.caller, batch, size, True), self.mesh)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chunks:
    """Data as `mean_over` goes through them: parts on the device, and batches from the host."""

    parts: tuple[Part, ...]
    host: tuple[HostBatches, ...] = field(default=(), metadata={"static": True})

    @property
    def needs_host(self) -> bool:
        """Whether the host has to be asked for batches, so that no transformation can hold them."""
        return bool(self.host)

    @property
    def num_examples(self) -> int | None:
        """How many examples there are; None where only the host knows."""
        return None if self.host else sum(part.num_examples for part in self.parts)

    @property
    def num_chunks(self) -> int | None:
        """How many chunks there are; None where only the host knows."""
        if self.host:
            return None
        return sum(part.num_full + (part.rest() is not None) for part in self.parts)

    def all_parts(self) -> Iterator[Part]:
        """Go through the parts on the device and those that come from the host."""
        yield from self.parts
        for batches in self.host:
            found = False
            for part in batches.parts():
                found = True
                yield part
            if not found:
                raise ValueError(
                    f"{batches.caller} needs an iterable that yields batches whenever it is gone "
                    f"through, got none from {type(batches.batches).__name__}."
                )

    def pieces(self) -> Iterator[tuple[Chunk, int]]:
        """Go through all chunks, each with the number of its examples."""
        for part in self.all_parts():
            yield from (part.chunk(np.int32(index)) for index in range(part.num_full))
            if (rest := part.rest()) is not None:
                yield rest


def read_chunks(
    caller: str, batches: tuple[Any, ...], batch_size: int | None, mesh: Mesh | None = None
) -> Chunks:
    """Read batches of any kind: arrays, trees of them, a `Dataset`, iterables on the host.

    A batch without `batch_size` is one chunk, as it came: it may be any tree, None too. With a
    `mesh` examples are split along its first axis, of which they must be a multiple; a smaller last
    chunk that is none lies on every device.
    """
    if batch_size is not None:
        number = whole_number(batch_size)
        if number is None:
            raise TypeError(
                f"{caller} needs a whole number as batch_size, got batch_size={batch_size!r}."
            )
        batch_size = number
        if batch_size < 1:
            raise ValueError(f"{caller} needs batch_size >= 1, got batch_size={batch_size}.")
    if mesh is not None:
        _check_mesh(caller, mesh, batch_size)
        mesh = with_auto_axes(mesh)
    host = tuple(
        HostBatches(batch, caller, batch_size, mesh) for batch in batches if _yields(caller, batch)
    )
    resident = [batch for batch in batches if not _yields(caller, batch)]
    if not batches:
        resident = [None]
    must_count = len(batches) > 1 or mesh is not None
    parts = [_part(caller, batch, batch_size, must_count) for batch in resident]
    most = max((part.num_examples for part in parts), default=0)
    if batch_size is not None and not host and batch_size > most:
        raise ValueError(
            f"{caller} needs 1 <= batch_size <= number of examples ({most}), "
            f"got batch_size={batch_size}."
        )
    return Chunks(tuple(one for part in parts for one in _placed(caller, part, mesh)), host)


def _check_mesh(caller: str, mesh: Any, batch_size: int | None) -> None:
    if not isinstance(mesh, Mesh):
        raise TypeError(f"{caller} needs a mesh of jax.make_mesh, got {type(mesh).__name__}.")
    if not mesh.axis_names:
        raise ValueError(f"{caller} needs a mesh with an axis to split batches along, got none.")
    num_devices = mesh.shape[mesh.axis_names[0]]
    if batch_size is not None and batch_size % num_devices:
        raise ValueError(
            f"{caller} needs a batch_size divisible by the mesh's first axis ({num_devices}), "
            f"got batch_size={batch_size}."
        )


def _yields(caller: str, batch: Any) -> bool:
    """Tell what the host goes through from trees of arrays, and refuse what it can but once."""
    if isinstance(batch, Iterator):
        raise TypeError(
            f"{caller} needs batches that can be gone through again and again, got a "
            f"{type(batch).__name__}, which can be but once: make a list of it and hand over "
            "*batches, or a class whose __iter__ starts anew."
        )
    is_leaf = jax.tree_util.all_leaves([batch])
    is_known = isinstance(batch, OffDevice | str | bytes) or hasattr(batch, "shape")
    # a loader of torch has no __iter__ but in its class; a sequence may have __getitem__ alone
    goes = hasattr(batch, "__iter__") or (
        hasattr(batch, "__getitem__") and hasattr(batch, "__len__")
    )
    return is_leaf and not is_known and goes


def _part(caller: str, batch: Any, batch_size: int | None, must_count: bool) -> Part:
    """Put one batch on the device."""
    arrays, normalization = parted(batch, caller)
    arrays = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _leaf(caller, path_name(path), leaf), arrays, is_leaf=_is_opaque
    )
    data = DeviceData(arrays, normalization)
    sizes = {name: np.shape(leaf)[:1] for name, leaf in named_leaves(arrays)}
    is_counted = len(set(sizes.values())) == 1 and () not in sizes.values()
    # of several batches without axes each is one example; with some it is not known how many
    if not is_counted and (batch_size is not None or (must_count and any(sizes.values()))):
        check_sizes(sizes, caller)
    size = None if batch_size is None or batch_size >= num_examples(data) else batch_size
    part = Part(data, size, is_counted)
    if part.num_examples == 0:
        raise ValueError(f"{caller} needs at least one example, got none.")
    return part


def _is_opaque(leaf: Any) -> bool:
    return isinstance(leaf, Iterator | range | set)


def _leaf(caller: str, name: str, leaf: Any) -> Any:
    """Put an array on the device; numbers of Python stay, for they leave dtypes alone."""
    if isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
        return leaf
    if isinstance(leaf, jax.Array):  # of keys, too
        return leaf
    check_array(name, leaf, caller)
    return on_device(caller, name, leaf)


def _placed(caller: str, part: Part, mesh: Mesh | None) -> Iterator[Part]:
    """Split examples over the first axis of a mesh; of all but the last chunk a stack is made."""
    if mesh is None or not part.is_counted:
        yield part if mesh is None else replace(part, data=replicated(part.data, mesh))
        return
    axis = mesh.axis_names[0]
    num_devices, count = mesh.shape[axis], part.num_examples
    put = lambda tree, *spec: jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*spec)))
    normalization = put(part.data.normalization)
    arrays, size = part.data.arrays, part.size
    if size is None:
        if count % num_devices:
            raise ValueError(
                f"{caller} needs batches divisible by the mesh's first axis ({num_devices}), "
                f"got {count} examples."
            )
        yield replace(part, data=DeviceData(put(arrays, axis), normalization))
        return
    full = part.num_full * size
    stack = jax.tree.map(lambda leaf: leaf[:full].reshape(-1, size, *leaf.shape[1:]), arrays)
    yield Part(DeviceData(put(stack, None, axis), normalization), size, True, is_stacked=True)
    if full < count:
        last = jax.tree.map(lambda leaf: leaf[full:], arrays)
        where = () if (count - full) % num_devices else (axis,)
        yield Part(DeviceData(put(last, *where), normalization), None, True)


def mean_over(
    chunks: Chunks, fn: Callable[..., PyTree], *args: Any, per_dispatch: int | None = None
) -> PyTree:
    r"""Return the mean over all examples of `fn(batch, *args)`, a mean over those of its chunk.

    $$\sum_k \frac{n_k}{n} f(\text{chunk}_k, \dots)$$

    `fn` is static: it needs a hash, and arrays it closes over are constants. Sums are in float32
    at least. `per_dispatch` chunks are taken in one program, by default one on CPU and all
    elsewhere, if nothing is traced; all, if anything is.
    """
    _refuse_host_in_trace(chunks, args)
    if chunks.num_chunks == 1:
        return _alone(next(chunks.pieces())[0], args, fn=fn)
    if _in_trace(chunks, args):
        return _mean_in_trace(chunks, args, fn=fn)
    if per_dispatch is None:
        per_dispatch = 1 if jax.default_backend() == "cpu" else 2**30
    return _mean_on_host(chunks, args, fn, per_dispatch)


def map_chunks(chunks: Chunks, fn: Callable[..., PyTree], *args: Any) -> Chunks:
    """Keep what `fn(batch, *args)` makes of every chunk, as data of the weights of the chunks."""
    _refuse_host_in_trace(chunks, args)
    if not _in_trace(chunks, args):
        made = [
            Part(DeviceData(_made(chunk, args, fn=fn), None), None, True, count=size)
            for chunk, size in chunks.pieces()
        ]
        return Chunks(tuple(made))
    made = []
    for part in chunks.parts:
        (first, size), count = part.chunk(0), part.num_full
        if count == 1:
            value, stacked = _made(first, args, fn=fn), None
        else:
            step = lambda _, i, part=part: (None, _made(part.chunk(i)[0], args, fn=fn))
            value, stacked = control_flow.scan(step, None, jnp.arange(count))[1], size
        is_stacked = stacked is not None
        made.append(Part(DeviceData(value, None), stacked, True, is_stacked, count * size))
        if (rest := part.rest()) is not None:
            value = DeviceData(_made(rest[0], args, fn=fn), None)
            made.append(Part(value, None, True, count=rest[1]))
    return Chunks(tuple(made))


def _in_trace(chunks: Chunks, args: tuple[Any, ...]) -> bool:
    return is_tracing() or any(map(is_traced, jax.tree.leaves((chunks, args))))


def _refuse_host_in_trace(chunks: Chunks, args: tuple[Any, ...]) -> None:
    if chunks.needs_host and _in_trace(chunks, args):
        raise TypeError(
            f"{chunks.host[0].caller} goes through batches on the host, got "
            f"{type(chunks.host[0].batches).__name__} under a transformation of JAX such as "
            "jit, vmap or grad: hand over arrays there."
        )


@partial(jax.jit, static_argnames="fn")
def _made(chunk: Chunk, args: tuple[Any, ...], *, fn: Callable[..., PyTree]) -> PyTree:
    return fn(chunk.batch(), *args)


def _mean_on_host(
    chunks: Chunks, args: tuple[Any, ...], fn: Callable[..., PyTree], per_dispatch: int
) -> PyTree:
    total, seen, count = None, 0, chunks.num_examples
    for part in chunks.all_parts():
        runs = [
            (*part.chunk(np.int32(start)), min(per_dispatch, part.num_full - start))
            for start in range(0, part.num_full, per_dispatch)
        ]
        if (rest := part.rest()) is not None:
            runs.append((*rest, 1))
        for chunk, size, length in runs:
            weight = float(size) if count is None else size / count
            if total is None:
                total = _zeros(chunk, args, fn=fn)
            elif count is None:
                jax.block_until_ready(total)  # else batches pile up on the device
            if length == 1:
                total = _add(total, chunk, weight, args, fn=fn)
            else:
                total = _add_run(total, chunk, np.int32(length), weight, args, fn=fn)
            seen += size * length
    return total if count is not None else _divided(total, float(seen))


@partial(jax.jit, static_argnames="fn")
def _alone(chunk: Chunk, args: tuple[Any, ...], *, fn: Callable[..., PyTree]) -> PyTree:
    return jax.tree.map(_summand, fn(chunk.batch(), *args))


@partial(jax.jit, static_argnames="fn")
def _zeros(chunk: Chunk, args: tuple[Any, ...], *, fn: Callable[..., PyTree]) -> PyTree:
    """Start a sum; compiled, since the function is traced for it."""
    shapes = jax.eval_shape(lambda: jax.tree.map(_summand, fn(chunk.batch(), *args)))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@partial(jax.jit, static_argnames="fn", donate_argnames="total")
def _add(
    total: PyTree, chunk: Chunk, weight: Number, args: tuple[Any, ...], *, fn: Callable[..., PyTree]
) -> PyTree:
    return _plus(total, weight, fn(chunk.batch(), *args))


@partial(jax.jit, static_argnames="fn", donate_argnames="total")
def _add_run(
    total: PyTree,
    chunk: Chunk,
    length: Int[Array, ""],
    weight: Number,
    args: tuple[Any, ...],
    *,
    fn: Callable[..., PyTree],
) -> PyTree:
    """Add several chunks, one behind the other, in one dispatch."""
    stride = 1 if chunk.is_stacked or chunk.size is None else chunk.size

    def add(i: Int[Array, ""], total: PyTree) -> PyTree:
        at = replace(chunk, start=chunk.start + i * stride)
        return _plus(total, weight, fn(at.batch(), *args))

    return jax.lax.fori_loop(0, length, add, total)


@jax.jit
def _divided(total: PyTree, count: Number) -> PyTree:
    return jax.tree.map(lambda leaf: leaf / jnp.asarray(count).astype(leaf.dtype), total)


@partial(jax.jit, static_argnames="fn")
def _mean_in_trace(chunks: Chunks, args: tuple[Any, ...], *, fn: Callable[..., PyTree]) -> PyTree:
    """Go through the chunks of full size in a scan, and then to the smaller last one."""
    count, first = chunks.num_examples, chunks.parts[0].chunk(0)[0]
    assert count is not None
    total = _zeros(first, args, fn=fn)
    plus = lambda total, chunk, size: _plus(total, size / count, fn(chunk.batch(), *args))
    for part in chunks.parts:
        step = lambda total, index, part=part: (plus(total, *part.chunk(index)), None)
        if part.num_full > 1:
            total, _ = control_flow.scan(step, total, jnp.arange(part.num_full))
        else:
            total = plus(total, *part.chunk(0))
        if (rest := part.rest()) is not None:
            total = plus(total, *rest)
    return total


def _summand(leaf: Any) -> Array:
    """Widen what is to be summed."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(averaging_dtype(leaf.dtype))


def _plus(total: PyTree, weight: Number, value: PyTree) -> PyTree:
    def add(sum: Array, leaf: Any) -> Array:
        leaf = _summand(leaf)
        return sum + jnp.asarray(weight).astype(leaf.dtype) * leaf

    return jax.tree.map(add, total, value)
