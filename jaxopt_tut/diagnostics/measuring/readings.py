"""What one forward and one backward pass give of every layer: its arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Shaped

from jaxopt_tut.diagnostics.measuring.network import Network
from jaxopt_tut.diagnostics.measuring.summaries import Real
from jaxopt_tut.diagnostics.measuring.units import Activity, Axes, mean_square
from jaxopt_tut.taps.inner import (
    CONTRACTIONS,
    REARRANGING,
    Layer,
    Place,
    Program,
    evaluate,
)
from jaxopt_tut.types import Scalar


class Reading(NamedTuple):
    """What is taken from one layer.

    Attributes:
      layer: How it is joined to the others.
      index: Which of the arrays of the parameters is W.
      weight: W.
      activity: z and a, and their cotangents.
      cotangent: Of z.
      gradient: Of W.
      inputs: x, and the number of its leading axes that count steps; none if a scan hands the
        array over.
      axes: What the axes of z and a count.
      gain: Fan-in times mean square of the matrix that x meets; None where that is W.
    """

    layer: Layer
    index: int
    weight: Inexact[Array, "..."]
    activity: Activity
    cotangent: Inexact[Array, "..."]
    gradient: Inexact[Array, "..."]
    inputs: tuple[Shaped[Array, "..."], int] | None
    axes: Axes
    gain: Real | None


class Readings(NamedTuple):
    """What the passes give.

    Attributes:
      layers: One reading each.
      gradients: Of all arrays of the parameters, as `jax.grad` returns them.
      loss: On the batch.
      is_finite: Whether the loss and all gradients are.
    """

    layers: list[Reading]
    gradients: list[Inexact[Array, "..."]]
    loss: Scalar
    is_finite: Bool[Array, ""]


class _Seen(NamedTuple):
    """What was at a place, and what came back to it where that is known."""

    values: dict[Place, Array]
    cotangents: dict[Place, Array]


def read_layers(network: Network) -> Readings:
    """Run a network forwards and backwards, and take the arrays of every layer."""
    program, layers = network.program, network.layers
    numbers = _number_places(layers)
    # A zero is added at each place: the derivative by it is the cotangent there.
    bumps = {
        numbers[tapped.place]: jnp.zeros(tapped.site.shape, tapped.site.dtype)
        for layer in layers
        for tapped in (layer.pre_activation, layer.bend, layer.activation)
        if tapped is not None and not tapped.site.blocked_by
    }

    def loss_and_values(
        arrays: list[Any], bumps: dict[int, Array]
    ) -> tuple[Scalar, dict[int, Array]]:
        outputs, values, _ = evaluate(program.jaxpr, [*arrays, *program.data], numbers, bumps)
        return outputs[0], values

    (loss, values), (gradients, cotangents) = jax.value_and_grad(
        loss_and_values, argnums=(0, 1), has_aux=True
    )(network.params.arrays, bumps)
    seen = _Seen(
        {place: values[k] for place, k in numbers.items()},
        {place: cotangents[k] for place, k in numbers.items() if k in cotangents},
    )
    index = {name: i for i, name in enumerate(network.params.names)}
    handed = _handed_over(program, layers)
    readings = []
    for layer in layers:
        i = index[layer.param]
        inputs = None
        if layer.input_place is not None:
            inputs = seen.values[layer.input_place], layer.num_step_axes
        elif layer.input_index is not None:
            inputs = program.arrays[layer.input_index], layer.num_step_axes
        elif layer.name in handed:
            inputs = program.arrays[handed[layer.name]], 0
        activity, axes = _activity(layer, seen)
        readings.append(
            Reading(
                layer,
                i,
                network.params.arrays[i],
                activity,
                seen.cotangents[layer.pre_activation.place],
                gradients[i],
                inputs,
                axes,
                _gain(layer, seen),
            )
        )
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in (loss, *gradients)]
    return Readings(readings, gradients, loss, jnp.all(jnp.stack(finite)))


def _number_places(layers: Sequence[Layer]) -> dict[Place, int]:
    """Number the places to look at, each once."""
    places: list[Place | None] = []
    for layer in layers:
        tapped = (layer.pre_activation, layer.bend, layer.activation)
        places += [one.place for one in tapped if one is not None]
        places += [layer.input_place, layer.use.matrix_place]
    return {place: k for k, place in enumerate(p for p in dict.fromkeys(places) if p is not None)}


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


def _activity(layer: Layer, seen: _Seen) -> tuple[Activity, Axes]:
    value, site = seen.values[layer.pre_activation.place], layer.pre_activation.site
    steps = layer.num_step_axes
    bent = before = after = None
    not_units = ()
    if layer.activation is not None:
        bent = seen.values[layer.activation.place]
        before = seen.cotangents.get(layer.bend.place)
        after = seen.cotangents.get(layer.activation.place)
        # The slope of the nonlinearity is the ratio of the two: where one is missing, cut off or
        # of another shape, it is not known.
        if layer.stops_gradient:
            before = None
        if before is None or after is None or not before.shape == after.shape == bent.shape:
            before = after = None
        not_units = _other_axes(bent, steps, layer.activation.site.unit_axes)
    examples = site.batch_axes or _other_axes(value, steps, site.unit_axes)
    return Activity(value, bent, before, after), Axes(steps, examples, not_units)


def _other_axes(
    array: Shaped[Array, "..."], num_steps: int, unit_axes: tuple[int, ...]
) -> tuple[int, ...]:
    """List the axes that count neither steps nor units; the last one does if none is known to."""
    units = unit_axes or (array.ndim - 1,)
    return tuple(axis for axis in range(num_steps, array.ndim) if axis not in units)


def _gain(layer: Layer, seen: _Seen) -> Real | None:
    if layer.use.matrix_place is None:
        return None
    matrix = seen.values[layer.use.matrix_place]
    return layer.fan_in * mean_square(matrix, layer.num_weight_steps)
