"""Where the batches of an epoch come from."""

import dataclasses
from collections.abc import Generator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer, Key, UInt32
from typing_extensions import TypeAliasType

from jaxopt_tut.datasets.inner import DeviceData, normalized, num_examples, take
from jaxopt_tut.types import Batch

AnyKey = TypeAliasType("AnyKey", Key[Array, ""] | UInt32[Array, "2"])
"""One key of `jax.random.key`, or an older one of `jax.random.PRNGKey`."""


class Window(NamedTuple):
    """The batches of some steps on the device, an argument of the program that takes them."""

    data: DeviceData
    """All examples; or, without an order, batches: the steps are their first axis."""
    order: Int[Array, "steps batch"] | None
    first: Int[Array, ""]
    """The step of the epoch whose batch is the first here."""


Windows = TypeAliasType("Windows", Generator[Window, None, None])
"""One a dispatch; closed by whoever asked for them."""


@runtime_checkable
class Source(Protocol):
    """Where the batches of an epoch come from.

    Attributes:
      data: The examples as a program sees them, or the shapes of as many as a batch has.
      num_steps: Steps in an epoch.
      is_repeatable: Whether the batches of an epoch can be asked for once more.
      ahead: Windows that the devices may have before them; None if there is but one.
    """

    @property
    def data(self) -> DeviceData:
        """Examples, or their shapes."""
        ...

    @property
    def num_steps(self) -> int:
        """Steps in an epoch."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether the batches of an epoch can be asked for once more."""
        ...

    @property
    def ahead(self) -> int | None:
        """Windows that the devices may have before them."""
        ...

    def windows(self, epoch: int, stops: Sequence[int]) -> Windows:
        """Yield what holds the batches between two stops, for any two that follow one another."""
        ...

    def position(self, at: int) -> str | None:
        """Write down how to come to the batch after `at` of them, if its number does not say it."""
        ...

    def learn(self, position: str | None) -> None:
        """Know what was written down, before the windows from there are asked for."""
        ...


class Findable:
    """Any batch can be had by its number."""

    is_repeatable = True

    def position(self, at: int) -> str | None:
        """Write nothing down."""

    def learn(self, position: str | None) -> None:
        """Need to know nothing."""


@dataclasses.dataclass(frozen=True)
class Resident(Findable):
    """All examples lie on the device, and are gathered there in the order of the epoch."""

    data: DeviceData
    shuffle_key: AnyKey
    batch_size: int
    ahead: None = None

    @property
    def num_steps(self) -> int:
        """Steps in an epoch."""
        return num_examples(self.data) // self.batch_size

    def windows(self, epoch: int, stops: Sequence[int]) -> Windows:
        """Yield all examples each time."""
        size = num_examples(self.data)
        order = epoch_order(self.shuffle_key, np.uint32(epoch), size, self.batch_size)
        window = Window(self.data, order, jnp.int32(0))
        for _ in stops[1:]:
            yield window


@partial(jax.jit, static_argnames=("size", "batch_size"))
def epoch_order(
    key: AnyKey, epoch: Integer[Array, ""] | np.integer, size: int, batch_size: int
) -> Int[Array, "steps batch"]:
    """Shuffle the examples for one epoch; the last partial batch is dropped."""
    order = jax.random.permutation(jax.random.fold_in(key, epoch), size)
    num_steps = size // batch_size
    return order[: num_steps * batch_size].reshape(num_steps, batch_size)


def batch_at(
    window: Window,
    step: Integer[Array, ""] | np.integer,
    part: Integer[Array, ""] | np.integer | int = 0,
    num_parts: int = 1,
) -> Batch:
    """Take the batch of a step of the epoch, or one of equal parts of it."""
    at = step - window.first
    if window.order is not None:
        return take(window.data, _part(window.order[at], part, num_parts))
    arrays, normalization = window.data
    batch = jax.tree.map(lambda leaf: _part(leaf[at], part, num_parts), arrays)
    return normalized(batch, normalization)


def _part(rows: Array, part: Integer[Array, ""] | np.integer | int, num_parts: int) -> Array:
    if num_parts == 1:
        return rows
    return rows.reshape(num_parts, rows.shape[0] // num_parts, *rows.shape[1:])[part]
