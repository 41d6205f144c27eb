"""Batches that someone else makes: loaders of grain and tf.data, generators."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxopt_tut.blocks import shown
from jaxopt_tut.datasets.inner import (
    DeviceData,
    OffDevice,
    check_array,
    check_sizes,
    native,
    parted,
)
from jaxopt_tut.training.data.columns import fitting
from jaxopt_tut.training.data.drawing import Drawing, takes_epoch
from jaxopt_tut.training.data.sources import Windows
from jaxopt_tut.training.data.windows import Layout, Part, Steps, capacity, windows
from jaxopt_tut.training.scalars import Count, as_count
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree


@shown
@dataclasses.dataclass(frozen=True)
class Batches(OffDevice):
    r"""Batches of an iterator: of grain, tf.data (`as_numpy_iterator`), or a generator.

    They are drawn in one thread beside the steps, `prefetch` windows ahead, and used as they are,
    all of one shape. `fit` needs no `batch_size`; its key does not shuffle them. With several
    processes each draws its own rows of every batch, which are joined in the order of the mesh.

    `make_iterator(epoch)`, if it has a parameter without default, is called once an epoch, counted
    from 0, and has to give the same batches for the same epoch: then a run can go back to any
    place. `make_iterator()` is called once, and its iterator goes on from epoch to epoch; one that
    ends where an epoch does is made anew. If it has `get_state` and `set_state` with a state that
    JSON knows (grain's have), a run goes back by these; else it resumes by drawing all batches up
    to the place, and its steps are exact ones (see `fit`), as no epoch can be taken again.

    Args:
      make_iterator: Returns an iterator, or what can be iterated, over trees of arrays of NumPy
        with a common first axis.
      steps_per_epoch: Batches an epoch.
      prefetch: Windows drawn ahead, each of about a MB or `steps_per_call` batches.

    Raises:
      TypeError: If `make_iterator` cannot be called so, or a count is no integer.
      ValueError: If a count is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxopt_tut.training import fit
      >>> def make_iterator(epoch):
      ...     draw = np.random.default_rng(epoch)
      ...     while True:
      ...         x = draw.uniform(-1, 1, 16).astype(np.float32)
      ...         yield x, 3 * x
      >>> loss_fn = lambda w, batch: jnp.mean((w * batch[0] - batch[1]) ** 2)
      >>> result = fit(loss_fn, jnp.array(0.0), optax.sgd(0.5), Batches(make_iterator, 8),
      ...              num_epochs=10, key=jax.random.key(0), progress=False)
      >>> round(float(result.params), 3)
      3.0
    """

    make_iterator: Callable[..., Any]
    steps_per_epoch: Count
    prefetch: Count = 2

    def __post_init__(self) -> None:
        """Refuse what makes no iterator."""
        if not callable(self.make_iterator):
            found = type(self.make_iterator).__name__
            raise TypeError(f"Batches needs a function as make_iterator, got {found}.")
        takes_epoch(self.make_iterator)
        for name in ("steps_per_epoch", "prefetch"):
            if as_count("Batches", name, getattr(self, name)) < 1:
                raise ValueError(f"Batches needs {name} >= 1, got {name}={getattr(self, name)}.")


class BatchesSource:
    """The batches of one run over iterators, which other threads draw one after the other."""

    def __init__(self, batches: Batches):
        """Look at the first batch."""
        self.num_steps = as_count("Batches", "steps_per_epoch", batches.steps_per_epoch)
        self.ahead = as_count("Batches", "prefetch", batches.prefetch)
        self.drawn = Drawing(batches.make_iterator, self.num_steps)
        first, _ = parted(self.drawn.peek(), "Batches")
        for name, leaf in named_leaves(first):
            check_array(name, leaf, "Batches")
        check_sizes({name: np.shape(leaf)[:1] for name, leaf in named_leaves(first)}, "Batches")
        shape_of = lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf)[1:], native(leaf).dtype)
        self.row = jax.tree.map(shape_of, first)
        self.dtypes = jax.tree.map(lambda row: jax.dtypes.canonicalize_dtype(row.dtype), self.row)
        self.num_rows = np.shape(jax.tree.leaves(first)[0])[0]
        self.layout, self.steps_per_call = Layout(None, self.num_rows), 1

    def bound(self, layout: Layout, steps_per_call: int) -> "BatchesSource":
        """Say where the batches go to."""
        self.layout, self.steps_per_call = layout, steps_per_call
        return self

    @property
    def is_repeatable(self) -> bool:
        """Whether the batches of an epoch can be had once more."""
        return self.drawn.is_repeatable

    @property
    def data(self) -> DeviceData:
        """Shapes of a batch."""
        struct = lambda row, dtype: jax.ShapeDtypeStruct(
            (self.layout.batch_size, *row.shape), dtype
        )
        return DeviceData(jax.tree.map(struct, self.row, self.dtypes), None)

    def windows(self, epoch: int, stops: Sequence[int]) -> Windows:
        """Draw the batches of the next steps while others are taken."""
        most = capacity(self.data.arrays, self.num_steps, self.steps_per_call)

        def read(steps: Steps) -> dict[Part, PyTree]:
            self.drawn.go_to(epoch * self.num_steps + steps[0])
            empty = lambda like: np.empty((steps[1] - steps[0], *like.shape), like.dtype)
            batches = jax.tree.map(empty, self._shapes(self.num_rows))
            for at in range(steps[1] - steps[0]):  # copied at once: some iterators fill one buffer
                jax.tree.map(
                    lambda all, one, at=at: all.__setitem__(at, one), batches, self._drawn()
                )
            self.drawn.note()
            return self._parts(batches)

        return windows(stops, read, most, self.layout, None, self.ahead)

    def position(self, at: int) -> str | None:
        """Write down how to come to a place."""
        return self.drawn.position(at)

    def learn(self, position: str | None) -> None:
        """Know what was written down."""
        self.drawn.learn(position)

    def _parts(self, batches: PyTree) -> dict[Part, PyTree]:
        """Cut the rows of this process, which lie one after the other, for its devices."""
        parts, end = {}, 0
        for start, stop in self.layout.parts:
            rows = slice(end, end := end + stop - start)
            parts[start, stop] = jax.tree.map(lambda leaf, rows=rows: leaf[:, rows], batches)
        return parts

    def _shapes(self, size: int) -> PyTree:
        struct = lambda row, dtype: jax.ShapeDtypeStruct((size, *row.shape), dtype)
        return jax.tree.map(struct, self.row, self.dtypes)

    def _drawn(self) -> PyTree:
        return fitting("Batches", self.drawn.draw(), self.row, self.dtypes, self.num_rows)
