"""A loss at many points in the space of parameters, one program for blocks of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow, jaxprs
from jaxopt_tut.counts import whole_number
from jaxopt_tut.datasets.inner import Chunk, Chunks, mean_over, read_chunks
from jaxopt_tut.landscape.stateful import Opened, State, StatefulLoss, refuse_frozen
from jaxopt_tut.landscape.statistics import Measured, Update, no_averages, renewed
from jaxopt_tut.loss_forms import with_batch
from jaxopt_tut.tracing import is_traced, is_tracing
from jaxopt_tut.types import Batch, LossFn, Params, PyTree

Statistics = TypeAliasType("Statistics", Literal["reestimated", "frozen", "batch"] | None)
"""What a model that normalises by running averages does at other weights; None is the first one."""

Place = Callable[[PyTree, Float[Array, "dim"]], Params]
"""From what spans a line, a plane or a curve, and the coordinates of a point, to parameters."""

_MODES = ("reestimated", "frozen", "batch")


def at_least_two(caller: str, num_points: Any) -> int:
    """Return a number of points that reach from one end to the other."""
    count = whole_number(num_points)
    if count is None or count < 2:
        raise ValueError(
            f"{caller} needs num_points >= 2, a whole number, got num_points={num_points!r}."
        )
    return count


class AtPoints(NamedTuple):
    """What a loss is at many points.

    Attributes:
      loss: One number a point.
      metrics: What the loss returns beside it.
      statistics: How it was normalised; None for a model without running averages.
    """

    loss: Float[Array, "points"]
    metrics: dict[str, Float[Array, "points"]]
    statistics: str | None


def loss_at_points(
    caller: str,
    loss_fn: LossFn,
    opened: Opened,
    place: Place,
    span: PyTree,
    coords: Float[Array, "points dim"],
    batches: tuple[Any, ...],
    *,
    key: Any,
    statistics: Statistics,
    training_loss: LossFn | None,
    batch_size: int | None,
    points_at_once: int | None,
) -> AtPoints:
    """Evaluate a loss at `place(span, coord)` for each coordinate, in blocks of points.

    `place` is static; what it places, `span`, is an argument of the one program.
    """
    loss_fn = with_batch(loss_fn, batches)
    training_loss = None if training_loss is None else with_batch(training_loss, batches)
    chunks = read_chunks(caller, batches, batch_size)
    work = _work(
        caller, loss_fn, opened, place, span, coords, chunks, key, statistics, training_loss
    )
    size = _block_size(caller, opened.trained, points_at_once, len(coords))
    count = len(coords)
    if is_tracing() or any(map(is_traced, jax.tree.leaves((span, coords, chunks, opened, key)))):
        padded = jnp.concatenate([coords, jnp.repeat(coords[-1:], -count % size, axis=0)])
        blocks = padded.reshape(-1, size, coords.shape[1])
        _, found = control_flow.scan(lambda _, block: (None, work.block(block)), None, blocks)
        join = lambda leaf: leaf.reshape(-1)[:count]
    else:
        numbers = np.asarray(coords)
        padded = np.concatenate([numbers, np.repeat(numbers[-1:], -count % size, axis=0)])
        # a loop of the host: the program of a block is dispatched again before it has ended
        found = [work.block(block) for block in padded.reshape(-1, size, coords.shape[1])]
        found = jax.tree.map(lambda *parts: np.concatenate(jax.device_get(parts)), *found)
        join = lambda leaf: jnp.asarray(leaf[:count])
    loss, metrics = jax.tree.map(join, found)
    return AtPoints(loss, metrics, work.statistics)


@dataclass(frozen=True)
class _Work:
    """All that is the same for all blocks of points."""

    evaluate: "Evaluate"
    update: "UpdateAt | None"
    chunks: Chunks
    span: PyTree
    state: State
    key: Any
    statistics: str | None

    def block(self, coords: Any) -> tuple[Array, dict[str, Array]]:
        """Evaluate the loss at a few points."""
        state = self.state
        if self.update is not None:
            measured = mean_over(self.chunks, self.update, self.span, coords, self.state, self.key)
            state = _renewed_at(state, measured)
        return mean_over(self.chunks, self.evaluate, self.span, coords, state, self.key)


@jax.jit
def _renewed_at(state: State, measured: Measured) -> State:
    """Put the averages of each point into a state with a leading axis of points."""
    return jax.vmap(lambda after: renewed(state, Measured(after, measured.found)))(measured.after)


@dataclass(frozen=True)
class Evaluate:
    """A loss at a few points as a function of a batch, for `mean_over`."""

    loss: StatefulLoss
    place: Place
    read: tuple[bool, ...] | None
    """Of the leaves of the state those of which the loss has to read some; None for none."""
    has_states: bool
    """Whether each point has a state of its own."""
    is_training: bool = False
    """Whether it has to be a loss as in training."""

    def __call__(
        self, batch: Batch, span: PyTree, coords: Array, state: State, key: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Evaluate the loss at each point."""

        def at(coord: Array, state: State) -> tuple[Array, dict[str, Array]]:
            trained = self.place(span, coord)
            self._check(batch, trained, state, key)
            if self.is_training:
                refuse_frozen(self.loss, trained, batch, state, key)
            out = self.loss(trained, batch, state, key)
            return out.loss, out.metrics

        return _each(at, coords, state, self.has_states)

    def _check(self, batch: Batch, trained: Params, state: State, key: Any) -> None:
        """Refuse a loss that does not read the averages: what becomes of them would not matter."""
        if self.read is None:
            return
        leaves, structure = jax.tree.flatten(state)
        value = lambda leaves: self.loss(trained, batch, structure.unflatten(leaves), key).loss
        (found,) = jaxprs.reach(jax.make_jaxpr(value)(leaves))
        if not any(is_read and i in found for i, is_read in enumerate(self.read)):
            raise ValueError(
                f"{self.loss.caller} needs a loss that reads the running averages, got one that "
                "normalises by the batch: hand over that of the evaluation, and that of the "
                "training as training_loss=, or say statistics='batch'."
            )


@dataclass(frozen=True)
class UpdateAt:
    """The update of running averages at a few points, for `mean_over`."""

    update: Update
    place: Place

    def __call__(
        self, batch: Batch, span: PyTree, coords: Array, state: State, key: Any
    ) -> Measured:
        """Renew the averages at each point."""
        at = lambda coord, state: self.update(batch, self.place(span, coord), state, key)
        return _each(at, coords, state, False)


def _each(
    at: Callable[[Array, State], PyTree], coords: Array, state: State, has_states: bool
) -> PyTree:
    """Map over points; one alone has no axis, as a convolution with many kernels is slow."""
    if len(coords) > 1:
        return jax.vmap(at, in_axes=(0, 0 if has_states else None))(coords, state)
    state = jax.tree.map(lambda leaf: leaf[0], state) if has_states else state
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], at(coords[0], state))


def _work(
    caller: str,
    loss_fn: LossFn,
    opened: Opened,
    place: Place,
    span: PyTree,
    coords: Array,
    chunks: Chunks,
    key: Any,
    statistics: Statistics,
    training_loss: LossFn | None,
) -> _Work:
    """Settle which loss is evaluated in which mode, and what is done to its state."""
    if statistics is not None and statistics not in _MODES:
        raise ValueError(
            f"{caller} needs statistics='reestimated', 'frozen' or 'batch', "
            f"got statistics={statistics!r}."
        )
    inexact = tuple(
        bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))
        for leaf in jax.tree.leaves(opened.state)
    )
    if statistics is not None and not any(inexact):
        raise ValueError(
            f"{caller} needs a model with running averages, or model_state=, for "
            f"statistics={statistics!r}, got none."
        )
    in_mode = lambda loss, mode: opened.bind(loss, mode if opened.has_modes else None)
    make = lambda loss, read, update, statistics: _Work(
        Evaluate(
            loss, place, read, update is not None, statistics == "batch" and not opened.has_modes
        ),
        update,
        chunks,
        span,
        opened.state,
        key,
        statistics,
    )
    trained_loss = loss_fn if training_loss is None else training_loss
    as_it_is = make(opened.bind(loss_fn, None), None, None, None)
    if not any(inexact):
        return as_it_is
    if statistics == "batch":
        return make(in_mode(trained_loss, True), None, None, statistics)
    if statistics == "frozen":
        return make(in_mode(loss_fn, False), inexact, None, statistics)
    advice = " as training_loss=, or say statistics='frozen'"
    update = UpdateAt(Update(in_mode(trained_loss, True), advice), place)
    first, _ = next(chunks.pieces())
    shapes = _shapes.eval_shape(first, span, coords[:1], opened.state, key, update=update)
    if not any(shapes.found.averages):
        if statistics is not None:
            raise ValueError(no_averages(caller))
        return as_it_is
    return make(in_mode(loss_fn, False), shapes.found.averages, update, "reestimated")


@partial(jax.jit, static_argnames="update")
def _shapes(
    chunk: Chunk, span: PyTree, coords: Array, state: State, key: Any, *, update: UpdateAt
) -> Measured:
    """Update averages once; only its shapes are asked for, which are cached with the trace."""
    return update(chunk.batch(), span, coords, state, key)


def _block_size(caller: str, trained: Params, given: int | None, count: int) -> int:
    """Choose how many points share a program.

    Measured on two cores: eight points of a perceptron take .6 of the time of eight times one, as
    their first layer is one product; convolutions with eight kernels take 1.5 of it.
    """
    if given is not None:
        number = whole_number(given)
        if number is None or number < 1:
            raise ValueError(
                f"{caller} needs points_at_once >= 1, a whole number, got points_at_once={given!r}."
            )
        return min(number, count)
    leaves = jax.tree.leaves(trained)
    if jax.default_backend() == "cpu" and any(leaf.ndim > 2 for leaf in leaves):
        return 1
    most = 8 if jax.default_backend() == "cpu" else 32
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return max(1, min(most, count, _MEMORY // max(size, 1)))


_MEMORY = 2**26
"""Bytes that the parameters of a block may take."""
