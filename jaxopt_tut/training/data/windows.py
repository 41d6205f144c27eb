"""Batches that come to the device a few steps at a time."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array
from typing_extensions import TypeAliasType

from jaxopt_tut.datasets.inner import DeviceData
from jaxopt_tut.training.data.prefetch import prefetched
from jaxopt_tut.training.data.sources import Window, Windows
from jaxopt_tut.types import PyTree, Scalar

WINDOW_BYTES = 1 << 20
"""Steps of small batches come together, up to so much: each window costs some 0.1 ms."""

Part = TypeAliasType("Part", tuple[int, int])
"""Rows of a batch, from the first to before the second."""

Steps = TypeAliasType("Steps", tuple[int, int])
"""Steps of an epoch, from the first to before the second."""

Read = TypeAliasType("Read", Callable[[Steps], dict[Part, PyTree]])
"""Returns the batches of some steps on the host, each array (steps, rows, ...), for every part."""


class Layout(NamedTuple):
    """Which rows of a batch lie on which devices; all of them on one without a mesh."""

    mesh: Mesh | None
    batch_size: int

    @property
    def sharding(self) -> NamedSharding | None:
        """Of batches of several steps."""
        if self.mesh is None:
            return None
        return NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names[0]))

    @property
    def parts(self) -> list[Part]:
        """Rows of each batch that devices of this process hold."""
        if self.sharding is None:
            return [(0, self.batch_size)]
        indices = self.sharding.addressable_devices_indices_map((1, self.batch_size)).values()
        return sorted({self._part(index) for index in indices if index is not None})

    def _part(self, index: Any) -> Part:
        start, stop, _ = index[1].indices(self.batch_size)
        return start, stop

    def placed(self, parts: dict[Part, PyTree]) -> PyTree:
        """Put batches on the devices."""
        trees = list(parts.values())
        sharding = self.sharding
        if sharding is None:
            return jax.tree.map(jnp.asarray, trees[0])

        def join(*leaves: np.ndarray) -> Array:
            of_part = dict(zip(parts, leaves, strict=True))
            steps, _, *row = leaves[0].shape  # (steps, rows, ...)
            return jax.make_array_from_callback(
                (steps, self.batch_size, *row), sharding, lambda at: of_part[self._part(at)]
            )

        return jax.tree.map(join, *trees)


def whole_batch(mesh: Mesh | None, num_rows: int) -> int:
    """Return the size of a batch of which this process has so many rows."""
    if mesh is None:
        return num_rows
    axis = mesh.shape[mesh.axis_names[0]]
    ours = sum(stop - start for start, stop in Layout(mesh, axis).parts)
    if num_rows % ours:
        raise ValueError(
            f"fit needs Batches whose rows the devices of the mesh's first axis "
            f"({mesh.axis_names[0]!r}: {ours} of them here) divide, got {num_rows} rows."
        )
    return num_rows // ours * axis


def capacity(batch: PyTree, num_steps: int, steps_per_call: int) -> int:
    """Return for how many steps a window has room: always as many, or programs would differ."""
    size = sum(leaf.dtype.itemsize * int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(batch))
    return max(1, min(num_steps, max(steps_per_call, WINDOW_BYTES // max(size, 1))))


def grouped(stops: Sequence[int], most: int) -> list[list[int]]:
    """Join neighbouring dispatches as long as they are of so many steps together."""
    groups = [[stops[0]]]
    for stop in stops[1:]:
        if len(groups[-1]) > 1 and stop - groups[-1][0] > most:
            groups.append([groups[-1][-1]])
        groups[-1].append(stop)
    return groups


def windows(
    stops: Sequence[int],
    read: Read,
    most: int,
    layout: Layout,
    normalization: tuple[Scalar, Scalar] | None,
    ahead: int,
) -> Windows:
    """Read the batches of the next windows while steps are taken, and put them on the devices."""
    groups = grouped(stops, most)
    with closing(prefetched(_read(groups, read, most), ahead)) as found:
        for group in groups:
            data = DeviceData(layout.placed(next(found)), normalization)
            window = Window(data, None, jnp.int32(group[0]))
            for _ in group[1:]:
                yield window


def _read(
    groups: list[list[int]], read: Read, most: int
) -> Generator[dict[Part, PyTree], None, None]:
    for first, *_, last in groups:
        try:
            parts = read((first, last))
        except Exception as error:
            error.add_note(f"fit was reading the batches of steps {first + 1} to {last}.")
            raise
        pad = lambda leaf, add=most - (last - first): np.concatenate(
            [leaf, np.zeros((add, *leaf.shape[1:]), leaf.dtype)]
        )
        yield jax.tree.map(pad, parts) if last - first < most else parts
