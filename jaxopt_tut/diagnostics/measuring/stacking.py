"""Statistics of many layers in few arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.diagnostics.measuring.first_step import FirstStep
from jaxopt_tut.diagnostics.measuring.readings import Reading, Readings
from jaxopt_tut.diagnostics.measuring.results import Flag, LayerStatistics, Statistics
from jaxopt_tut.diagnostics.measuring.summaries import Real, SummaryStack, real, summarize_all
from jaxopt_tut.diagnostics.measuring.units import (
    UnitCounts,
    count_units,
    mean_square,
    number_activities,
)
from jaxopt_tut.taps import Tape
from jaxopt_tut.taps.inner import Layer


class Numbers(NamedTuple):
    """The entries of `LayerStatistics` that are numbers: the steps of all layers in a row."""

    fraction_dead: Float[Array, "step"]
    fraction_saturated: Float[Array, "step"]
    correlation: Float[Array, "step"]
    update_ratio: Float[Array, "weight_step"]
    gain: Float[Array, "weight_step"]
    counts: UnitCounts


class Entry(NamedTuple):
    """Where a layer is found in the arrays.

    Attributes:
      summaries: Which are its own, in the order of `LayerStatistics`.
      steps: The lengths of the scans around it.
      weight_steps: The lengths of those that cut its weight.
    """

    summaries: tuple[int, int, int, int, int, int | None]
    steps: tuple[int, ...]
    weight_steps: tuple[int, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Measured:
    """Statistics in few arrays: a program with hundreds of outputs compiles and returns slowly.

    Attributes:
      summaries: Of all arrays of all layers.
      numbers: Of all layers.
      loss: On the batch.
      is_finite: See `Statistics`.
      step: The optimizer's, without the updates.
      num_updates: How many updates were tried.
      wiring: The layers.
      entries: One for each layer.
    """

    summaries: SummaryStack
    numbers: Numbers
    loss: Real
    is_finite: Flag
    step: FirstStep
    num_updates: int = field(metadata={"static": True})
    wiring: tuple[Layer, ...] = field(metadata={"static": True})
    entries: tuple[Entry, ...] = field(metadata={"static": True})

    def unpack(self) -> Statistics:
        """Cut the arrays, NumPy's or JAX's, into the statistics of each layer."""
        layers, start, weight_start = {}, 0, 0
        for layer, entry in zip(self.wiring, self.entries, strict=True):
            *always, inputs = entry.summaries
            # Two kinds of column: some have an entry for each step of z, some for each of W, which
            # a scan over one weight repeats.
            stop = start + math.prod(entry.steps)
            weight_stop = weight_start + math.prod(entry.weight_steps)
            dead, saturated, correlation = (
                column[start:stop].reshape(entry.steps) for column in self.numbers[:3]
            )
            ratio, gain, distinct, active = (
                column[weight_start:weight_stop].reshape(entry.weight_steps)
                for column in (self.numbers.update_ratio, self.numbers.gain, *self.numbers.counts)
            )
            layers[layer.name] = LayerStatistics(
                *(self.summaries[k] for k in always),
                inputs=None if inputs is None else self.summaries.spread(inputs, entry.steps),
                fraction_dead=dead,
                fraction_saturated=saturated,
                correlation=correlation,
                distinct_gradients=distinct,
                active_gradients=active,
                update_ratio=ratio,
                gain=gain,
            )
            start, weight_start = stop, weight_stop
        return Statistics(
            Tape(layers),
            self.loss,
            self.step.loss,
            self.step.expected_change,
            self.step.growth,
            self.step.searches,
            self.is_finite,
            self.num_updates,
            self.wiring,
        )


def stack(found: Readings, step: FirstStep, num_updates: int) -> Measured:
    """Summarise all arrays together, and put all numbers in a row."""
    arrays, entries = [], []
    for one in found.layers:
        steps, weight_steps = one.layer.num_step_axes, one.layer.num_weight_steps
        value, first = one.activity.pre_activation, len(arrays)
        arrays += [
            (one.weight, weight_steps),
            (value, steps),
            (value if one.activity.activation is None else one.activity.activation, steps),
            (one.cotangent, steps),
            (one.gradient, weight_steps),
        ]
        of_inputs = None
        if one.inputs is not None:
            of_inputs = len(arrays)
            arrays.append(one.inputs)
        places = (first, first + 1, first + 2, first + 3, first + 4, of_inputs)
        entries.append(Entry(places, value.shape[:steps], one.weight.shape[:weight_steps]))
    summaries = summarize_all(arrays)
    return Measured(
        summaries,
        _numbers(found.layers, entries, summaries, step.updates),
        found.loss,
        found.is_finite,
        step._replace(updates=None),
        num_updates,
        tuple(one.layer for one in found.layers),
        tuple(entries),
    )


def _numbers(
    readings: Sequence[Reading],
    entries: Sequence[Entry],
    summaries: SummaryStack,
    updates: Sequence[Array] | None,
) -> Numbers:
    """Compute the numbers of all layers at once, in columns that run through all their steps."""
    dtype = summaries.rows.mean.dtype
    num_weight_steps = [math.prod(entry.weight_steps) for entry in entries]

    def column(numbers: Sequence[Array | np.ndarray]) -> Float[Array, "row"]:
        return jnp.concatenate([jnp.ravel(number).astype(dtype) for number in numbers])

    def repeated(values: Sequence[int], counts: Sequence[int]) -> Float[np.ndarray, "row"]:
        return np.repeat(values, counts).astype(dtype)

    # These are known from the summaries already.
    def mean_squares(places: Sequence[int]) -> Real:
        rows = np.concatenate([summaries.find_rows(place) for place in places])
        return summaries.rows.variance[rows] + summaries.rows.mean[rows] ** 2

    weight = mean_squares([entry.summaries[0] for entry in entries])
    own = mean_squares([entry.summaries[1] for entry in entries])  # of z
    dead, saturated, product = zip(
        *number_activities([(one.activity, one.axes) for one in readings]), strict=True
    )
    # E[z z'] over pairs of n different examples is (n E_u[zbar^2] - E[z^2]) / (n - 1).
    sizes = [
        math.prod(one.activity.pre_activation.shape[axis] for axis in one.axes.examples)
        for one in readings
    ]
    num_examples = repeated(sizes, [math.prod(entry.steps) for entry in entries])
    crossed = num_examples * column(product) - own
    pairs = np.maximum(num_examples - 1, 1) * jnp.where(own > 0, own, 1)
    moved = column([_mean_square_update(one, updates) for one in readings])
    return Numbers(
        column(dead),
        column(saturated),
        jnp.where(own > 0, crossed / pairs, jnp.nan),
        jnp.where(weight > 0, jnp.sqrt(moved / jnp.where(weight > 0, weight, 1)), jnp.nan),
        _gains(
            readings,
            weight * repeated([one.layer.fan_in for one in readings], num_weight_steps),
            num_weight_steps,
        ),
        count_units(
            [(one.gradient, one.layer.unit_axes, one.layer.num_weight_steps) for one in readings]
        ),
    )


def _mean_square_update(one: Reading, updates: Sequence[Array] | None) -> Real:
    """Return that of the update of a weight, NaN without an optimizer."""
    steps = one.layer.num_weight_steps
    if updates is None:
        return jnp.full(one.weight.shape[:steps], jnp.nan, real(one.weight).dtype)
    return mean_square(updates[one.index], steps)


def _gains(
    readings: Sequence[Reading], of_weights: Real, counts: Sequence[int]
) -> Float[Array, "row"]:
    """Take the gain of what a function makes of its weight, where it makes something of it."""
    gains = of_weights
    if any(one.gain is not None for one in readings):
        cut = jnp.split(of_weights, np.cumsum(counts)[:-1])
        parts = [
            part if one.gain is None else jnp.ravel(one.gain).astype(part.dtype)
            for one, part in zip(readings, cut, strict=True)
        ]
        gains = jnp.concatenate(parts)
    # What becomes of a weight cannot always be followed: then its own size says nothing.
    is_known = [one.layer.use.is_plain or one.gain is not None for one in readings]
    return jnp.where(np.repeat(is_known, counts), gains, jnp.nan)
