"""Data that stay on the host or in files, and come to the device as they are needed."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from jaxopt_tut.blocks import shown
from jaxopt_tut.datasets.inner import Data, DeviceData, OffDevice
from jaxopt_tut.training.data.columns import Columns, columns
from jaxopt_tut.training.data.sources import AnyKey, Findable, Windows, epoch_order
from jaxopt_tut.training.data.windows import Layout, Part, Steps, capacity, windows
from jaxopt_tut.training.scalars import Count, as_count
from jaxopt_tut.types import PyTree


@shown
@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(OffDevice):
    r"""Data larger than the device: `fit` reads the rows of the next steps while it takes others.

    $$B_t = \{x_{\pi_e(tb)}, \dots, x_{\pi_e(tb + b - 1)}\}$$

    with $\pi_e$ the same order of epoch $e$ as for data on the device: the same key gives the same
    batches and the same bits. A place in a run is its key and its step, nothing else. On the
    device and on the host there are `prefetch` + 1 windows of about a MB, or of `steps_per_call`
    batches, and 4 bytes an example for the order. Rows are read in one thread beside the steps;
    files behind a `np.memmap` are read by page, so a row should have a kB or more.

    With several processes each reads the rows of its own devices only.

    Args:
      arrays: A tree of arrays with a common first axis, `np.memmap` (`np.load(...,
        mmap_mode="r")`) or in memory; a `Dataset` of such, whose images are normalised after they
        came to the device. Or, in place of any array, what has a length and returns several rows
        for an array of increasing indices, `data[np.array([2, 3, 7])]`: files of HDF5 and Zarr, or
        an object of your own, which may return a tree. What takes one index at a time is a matter
        for `Batches`.
      prefetch: Windows that are read ahead.

    Raises:
      TypeError: If the data are no arrays of numbers and take no array of indices, or `prefetch`
        is no integer.
      ValueError: If first axes differ or are empty, a file is shorter than its array, or
        `prefetch` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxopt_tut.training import fit
      >>> x = np.linspace(-1.0, 1.0, 64, dtype=np.float32)
      >>> loss_fn = lambda w, batch: jnp.mean((w * batch[0] - batch[1]) ** 2)
      >>> run = lambda data: fit(loss_fn, jnp.array(0.0), optax.sgd(0.5), data, batch_size=16,
      ...                        num_epochs=3, key=jax.random.key(0), progress=False).params
      >>> bool(run(Streamed((x, 3 * x))) == run((x, 3 * x)))
      True
    """

    arrays: Data
    prefetch: Count = 2

    def __post_init__(self) -> None:
        """Refuse what cannot be streamed."""
        if as_count("Streamed", "prefetch", self.prefetch) < 1:
            raise ValueError(f"Streamed needs prefetch >= 1, got prefetch={self.prefetch}.")
        columns(self.arrays)


@dataclasses.dataclass(frozen=True)
class StreamedSource(Findable):
    """The batches of one run over streamed data."""

    columns: Columns
    shuffle_key: AnyKey
    layout: Layout
    steps_per_call: int
    ahead: int

    @property
    def data(self) -> DeviceData:
        """Shapes of a batch."""
        batch = self.columns.batch(self.layout.batch_size)
        return DeviceData(batch, self.columns.normalization)

    @property
    def num_steps(self) -> int:
        """Steps in an epoch."""
        return self.columns.size // self.layout.batch_size

    def windows(self, epoch: int, stops: Sequence[int]) -> Windows:
        """Read the rows of the next steps while others are taken."""
        at = self.shuffle_key, np.uint32(epoch), self.columns.size, self.layout.batch_size
        order = np.asarray(epoch_order(*at))
        most = capacity(self.data.arrays, self.num_steps, self.steps_per_call)

        def read(steps: Steps) -> dict[Part, PyTree]:
            batches = order[slice(*steps)]
            return {part: self._rows(batches[:, slice(*part)]) for part in self.layout.parts}

        return windows(stops, read, most, self.layout, self.columns.normalization, self.ahead)

    def _rows(self, indices: np.ndarray) -> PyTree:
        rows = self.columns.rows(indices.ravel())
        return jax.tree.map(lambda leaf: leaf.reshape(*indices.shape, *leaf.shape[1:]), rows)
