"""Statistics of many layers in few arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxopt_tut.diagnostics.measuring.first_step import FirstStep
from jaxopt_tut.diagnostics.measuring.results import LayerStatistics, Statistics
from jaxopt_tut.diagnostics.measuring.summaries import SummaryStack, summarize_all
from jaxopt_tut.diagnostics.measuring.units import (
    Activity,
    Axes,
    UnitCounts,
    count_units,
    number_activities,
)
from jaxopt_tut.taps import Tape
from jaxopt_tut.taps.inner import Layer


class Reading(NamedTuple):
    """What is taken from one layer.

    Attributes:
      layer: How it is joined to the others.
      weight: W.
      activity: z and a, and their cotangents.
      cotangent: Of z.
      gradient: Of W.
      inputs: x, and the number of its leading axes that count steps; none if a scan hands the
        array over.
      axes: What the axes of z and a count.
      mean_square_update: Of the update of W; NaN without an optimizer.
      gain: Fan-in times mean square of the matrix that x meets; None where that is W.
    """

    layer: Layer
    weight: Array
    activity: Activity
    cotangent: Array
    gradient: Array
    inputs: tuple[Array, int] | None
    axes: Axes
    mean_square_update: Array
    gain: Array | None = None


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
    loss: Float[Array, ""]
    is_finite: Bool[Array, ""]
    step: FirstStep
    num_updates: int = field(metadata={"static": True})
    wiring: tuple[Layer, ...] = field(metadata={"static": True})
    entries: tuple[Entry, ...] = field(metadata={"static": True})

    def unpack(self) -> Statistics:
        """Cut the arrays into the statistics of each layer."""
        layers, start, weight_start = {}, 0, 0
        for layer, entry in zip(self.wiring, self.entries, strict=True):
            *always, inputs = entry.summaries
            stop = start + math.prod(entry.steps)
            weight_stop = weight_start + math.prod(entry.weight_steps)
            dead, saturated, correlation = (
                column[start:stop].reshape(entry.steps) for column in self.numbers[:3]
            )
            ratio, gain, distinct, active = (
                column[weight_start:weight_stop].reshape(entry.weight_steps)
                for column in (self.numbers.update_ratio, self.numbers.gain, *self.numbers.counts)
            )
            weights, pre_activations, activations, cotangents, gradients = (
                self.summaries[k] for k in always
            )
            layers[layer.name] = LayerStatistics(
                weights,
                pre_activations,
                activations,
                cotangents,
                gradients,
                None if inputs is None else self.summaries.spread(inputs, entry.steps),
                dead,
                saturated,
                correlation,
                distinct,
                active,
                ratio,
                gain,
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


def stack(
    readings: Sequence[Reading],
    loss: Float[Array, ""],
    is_finite: Bool[Array, ""],
    step: FirstStep,
    num_updates: int = 1,
) -> Measured:
    """Summarise all arrays together, and put all numbers in a row."""
    arrays, entries = [], []
    for one in readings:
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
    dtype = summaries.rows.mean.dtype

    def column(numbers):
        return jnp.concatenate([jnp.ravel(number).astype(dtype) for number in numbers])

    def square(places):
        rows = np.concatenate([summaries.find_rows(place) for place in places])
        return summaries.rows.variance[rows] + summaries.rows.mean[rows] ** 2

    num_steps = [math.prod(entry.steps) for entry in entries]
    num_weight_steps = [math.prod(entry.weight_steps) for entry in entries]
    sizes = [
        math.prod(one.activity.pre_activation.shape[axis] for axis in one.axes.examples)
        for one in readings
    ]
    num_examples = np.repeat(sizes, num_steps).astype(dtype)
    dead, saturated, product = zip(
        *number_activities([(one.activity, one.axes) for one in readings]), strict=True
    )
    weight, own = (square([entry.summaries[k] for entry in entries]) for k in (0, 1))
    crossed = num_examples * column(product) - own
    pairs = np.maximum(num_examples - 1, 1) * jnp.where(own > 0, own, 1)
    moved = column([one.mean_square_update for one in readings])
    gains = weight * np.repeat([one.layer.fan_in for one in readings], num_weight_steps).astype(
        dtype
    )
    if any(one.gain is not None for one in readings):
        parts, start = [], 0
        for one, count in zip(readings, num_weight_steps, strict=True):
            parts.append(gains[start : start + count] if one.gain is None else one.gain)
            start += count
        gains = column(parts)
    plain = [one.layer.use.is_plain or one.gain is not None for one in readings]
    gains = jnp.where(np.repeat(plain, num_weight_steps), gains, jnp.nan)
    numbers = Numbers(
        column(dead),
        column(saturated),
        jnp.where(own > 0, crossed / pairs, jnp.nan),
        jnp.where(weight > 0, jnp.sqrt(moved / jnp.where(weight > 0, weight, 1)), jnp.nan),
        gains,
        count_units(
            [(one.gradient, one.layer.unit_axes, one.layer.num_weight_steps) for one in readings]
        ),
    )
    wiring = tuple(one.layer for one in readings)
    step = step._replace(updates=None)
    return Measured(summaries, numbers, loss, is_finite, step, num_updates, wiring, tuple(entries))
