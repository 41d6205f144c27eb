"""Measure every layer in one forward and one backward pass, into few large arrays."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxopt_tut.diagnostics.measuring.first_step import FirstStep, take_first_step
from jaxopt_tut.diagnostics.measuring.stacking import Measured, Reading, stack
from jaxopt_tut.diagnostics.measuring.summaries import real
from jaxopt_tut.diagnostics.measuring.units import Activity, Axes, mean_square
from jaxopt_tut.losses import require_loss
from jaxopt_tut.taps.inner import (
    CONTRACTIONS,
    REARRANGING,
    Layer,
    Place,
    Program,
    evaluate,
    require_examples,
    require_layers,
    take_parameters,
    trace_program,
)
from jaxopt_tut.types import Batch, LossFn, Params


def measure(
    caller: str,
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    optimizer: optax.GradientTransformation | None = None,
    num_updates: int = 1,
) -> Measured:
    """Do what `statistics` does, but for cutting the numbers apart.

    Args:
      caller: The name of the function that asks; it opens the messages.
      loss_fn: As in `statistics`.
      params: As in `statistics`.
      batch: As in `statistics`.
      optimizer: As in `statistics`.
      num_updates: How many updates of the optimizer to try, see `take_first_step`.

    Returns:
      The statistics, stacked.
    """
    readings = read_layers(caller, loss_fn, params, batch, optimizer, num_updates)
    return stack(*readings, num_updates=num_updates)


class Readings(NamedTuple):
    """What one forward and one backward pass give.

    Attributes:
      layers: One for each layer.
      loss: See `Statistics`.
      is_finite: See `Statistics`.
      step: The optimizer's.
    """

    layers: list[Reading]
    loss: Float[Array, ""]
    is_finite: Bool[Array, ""]
    step: FirstStep


def read_layers(
    caller: str,
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    optimizer: optax.GradientTransformation | None = None,
    num_updates: int = 1,
) -> Readings:
    """Take the arrays of every layer.

    Args:
      caller: The name of the function that asks; it opens the messages.
      loss_fn: As in `statistics`.
      params: As in `statistics`.
      batch: As in `statistics`.
      optimizer: As in `statistics`.
      num_updates: How many updates of the optimizer to try, see `take_first_step`.

    Returns:
      The arrays, and the losses.
    """
    parts = take_parameters(caller, params)
    _require_any_example(caller, batch)
    program = trace_program(caller, loss_fn, (params, batch), may_close_over=False)
    require_loss(caller, program.result)
    layers = readable_layers(caller, program.layers)
    arrays = parts.arrays
    numbers = _number_places(layers)
    bumps = {
        numbers[tapped.place]: jnp.zeros(tapped.site.shape, tapped.site.dtype)
        for layer in layers
        for tapped in (layer.pre_activation, layer.bend, layer.activation)
        if tapped is not None and not tapped.site.blocked_by
    }

    def loss_and_values(arrays, bumps):
        outputs, values, _ = evaluate(program.jaxpr, [*arrays, *program.data], numbers, bumps)
        return outputs[0], values

    (loss, values), (gradients, cotangents) = jax.value_and_grad(
        loss_and_values, argnums=(0, 1), has_aux=True
    )(arrays, bumps)
    step = take_first_step(loss_fn, params, batch, gradients, optimizer, num_updates)
    index = {name: i for i, name in enumerate(parts.names)}
    handed = _handed_over(program, layers)
    read = []
    for layer in layers:
        i = index[layer.param]
        inputs = None
        if layer.input_place is not None:
            inputs = values[numbers[layer.input_place]], layer.num_step_axes
        elif layer.input_index is not None:
            inputs = program.arrays[layer.input_index], layer.num_step_axes
        elif layer.name in handed:
            inputs = program.arrays[handed[layer.name]], 0
        update = None if step.updates is None else step.updates[i]
        seen = _Seen(values, cotangents, numbers)
        read.append(_read(layer, arrays[i], gradients[i], update, inputs, seen))
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in (loss, *gradients)]
    return Readings(read, loss, jnp.all(jnp.stack(finite)), step)


def _handed_over(program: Program, layers: Sequence[Layer]) -> dict[str, int]:
    """Find the array of the batch that a scan hands to a layer, if nothing is done to it before."""
    nodes = program.nodes
    at = {node.place: node for node in nodes if node.place is not None}
    found = {}
    for layer in layers:
        is_known = layer.input_place is not None or layer.input_index is not None
        start = [] if is_known or not layer.is_first else [at[layer.pre_activation.place].index]
        todo, arrays = start, set()
        while todo:
            node = nodes[todo.pop()]
            if node.op == "input" and program.names[node.index] is None:
                arrays.add(node.index)
            # The bias, the product, and what brings the array to the step.
            elif node.op in {"add", "step", *CONTRACTIONS, *REARRANGING}:
                todo += [i for i in node.inputs if i is not None]
        if len(arrays) == 1:
            found[layer.name] = arrays.pop()
    return found


def _require_any_example(caller: str, batch: Batch) -> None:
    """Refuse a batch of nothing before the loss takes a mean over it."""
    sizes = [jnp.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)]
    if sizes and max(sizes) == 0:
        raise ValueError(f"{caller} needs a batch of at least two examples, got none.")


def readable_layers(caller: str, layers: Sequence[Layer]) -> list[Layer]:
    """Keep the layers that have a cotangent, and refuse a function or a batch without any."""
    # A layer of no units or no inputs has nothing to say.
    layers = [one for one in layers if one.fan_in and math.prod(one.pre_activation.site.shape)]
    require_layers(caller, layers)
    kept = [layer for layer in layers if not layer.pre_activation.site.blocked_by]
    if not kept:
        site = layers[0].pre_activation.site
        raise ValueError(
            f"{caller} cannot reach {site.name!r}: it lies inside {site.blocked_by}, where JAX "
            "defines no cotangent."
        )
    require_examples(caller, kept)
    return kept


class _Seen(NamedTuple):
    """Values and cotangents by number, and the numbers by place."""

    values: dict[int, Array]
    cotangents: dict[int, Array]
    numbers: dict[Place, int]


def _number_places(layers: Sequence[Layer]) -> dict[Place, int]:
    places: list[Place | None] = []
    for layer in layers:
        tapped = (layer.pre_activation, layer.bend, layer.activation)
        places += [one.place for one in tapped if one is not None]
        places += [layer.input_place, layer.use.matrix_place]
    return {place: k for k, place in enumerate(p for p in dict.fromkeys(places) if p is not None)}


def _read(layer: Layer, weight, gradient, update, inputs, seen: _Seen) -> Reading:
    steps, weight_steps = layer.num_step_axes, layer.num_weight_steps
    number = seen.numbers[layer.pre_activation.place]
    value, cotangent = seen.values[number], seen.cotangents[number]
    bent = before = after = None
    not_units = ()
    if layer.activation is not None:
        bent = seen.values[seen.numbers[layer.activation.place]]
        before = seen.cotangents.get(seen.numbers[layer.bend.place])
        after = seen.cotangents.get(seen.numbers[layer.activation.place])
        if layer.stops_gradient:
            before = None
        if before is None or after is None or not before.shape == after.shape == bent.shape:
            before = after = None
        not_units = _other_axes(bent, steps, layer.activation.site.unit_axes)
    site = layer.pre_activation.site
    examples = site.batch_axes or _other_axes(value, steps, site.unit_axes)
    gain = None
    if layer.use.matrix_place is not None:
        matrix = seen.values[seen.numbers[layer.use.matrix_place]]
        gain = layer.fan_in * mean_square(matrix, weight_steps)
    moved = jnp.full(weight.shape[:weight_steps], jnp.nan, real(weight).dtype)
    if update is not None:
        moved = mean_square(update, weight_steps)
    return Reading(
        layer,
        weight,
        Activity(value, bent, before, after),
        cotangent,
        gradient,
        inputs,
        Axes(steps, examples, not_units),
        moved,
        gain,
    )


def _other_axes(array, num_steps, unit_axes) -> tuple[int, ...]:
    """List the axes that count neither steps nor units; the last one does if none is known to."""
    units = unit_axes or (array.ndim - 1,)
    return tuple(axis for axis in range(num_steps, array.ndim) if axis not in units)
