"""What `fit` asks of its data before it knows the size of a batch, and after."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int
from typing_extensions import TypeAliasType

from jaxopt_tut.datasets.inner import Data, DeviceData, device_data, num_examples
from jaxopt_tut.devices import replicated
from jaxopt_tut.training.data.batches import Batches, BatchesSource
from jaxopt_tut.training.data.columns import columns
from jaxopt_tut.training.data.sources import AnyKey, Resident, Source
from jaxopt_tut.training.data.streamed import Streamed, StreamedSource
from jaxopt_tut.training.data.windows import Layout, whole_batch
from jaxopt_tut.types import PyTree

MOST_ROWS = 256
"""Of streamed data, that are read to tell them from others."""

Bind = TypeAliasType("Bind", Callable[[AnyKey, Layout, int], Source])
"""Makes the source of a run, by the key of the order and the steps of a dispatch."""


class Feed(NamedTuple):
    """Data of any kind."""

    data: DeviceData
    """The examples or their shapes."""
    size: int
    """Examples, of which a batch has no more."""
    batch_size: int | None
    """That of batches someone else made."""
    source: Bind
    sample: Callable[[], PyTree]
    """Reads what tells these data from others; of iterators there are the shapes only."""

    def resolved(self, batch_size: Any) -> Any:
        """Return the batch size that was given, or that of the data."""
        if self.batch_size is None and batch_size is None:
            raise TypeError(
                "fit needs batch_size=, the examples a step, unless its data are Batches, got None."
            )
        if self.batch_size is not None and batch_size not in (None, self.batch_size):
            raise ValueError(
                f"fit needs the batch_size of its Batches ({self.batch_size}) or none, "
                f"got batch_size={batch_size}."
            )
        return self.batch_size if batch_size is None else batch_size


Examples = TypeAliasType("Examples", Data | Streamed | Batches)
"""Data on the device, or what comes to it as it is needed."""


def open_data(dataset: Examples, mesh: Mesh | None) -> Feed:
    """Look at data, on the device or elsewhere."""
    if isinstance(dataset, Streamed):
        table, ahead = columns(dataset.arrays), int(dataset.prefetch)
        data = DeviceData(table.batch(table.size), table.normalization)

        def stream(key: AnyKey, layout: Layout, steps: int) -> Source:
            scales = replicated(table.normalization, layout.mesh)
            here = table._replace(normalization=scales)
            return StreamedSource(here, key, layout, steps, ahead)

        return Feed(data, table.size, None, stream, lambda: table.rows(_some(table.size)))
    if isinstance(dataset, Batches):
        source = BatchesSource(dataset)
        size = whole_batch(mesh, source.num_rows)
        data = source.bound(Layout(mesh, size), 1).data
        bind = lambda _key, layout, steps: source.bound(layout, steps)
        zeros = lambda: jax.tree.map(lambda like: np.zeros(like.shape, like.dtype), data.arrays)
        return Feed(data, size, size, bind, zeros)
    data = device_data(dataset, "fit")

    def reside(key: AnyKey, layout: Layout, _steps: int) -> Source:
        here, key = replicated((data, key), layout.mesh)
        return Resident(here, key, layout.batch_size)

    return Feed(data, num_examples(data), None, reside, lambda: data.arrays)


def _some(size: int) -> Int[np.ndarray, "rows"]:
    """Return the indices of some rows all over: to read all may take hours."""
    return np.unique(np.linspace(0, size - 1, MOST_ROWS).astype(np.int64))
