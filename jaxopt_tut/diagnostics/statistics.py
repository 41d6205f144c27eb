"""The array part of a diagnosis: per-layer statistics in one forward and one backward pass."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxopt_tut.diagnostics.summaries import Summary, real, summarize_all
from jaxopt_tut.taps.interpreter import evaluate
from jaxopt_tut.taps.layers import Layer, find_layers
from jaxopt_tut.taps.tape import Tape
from jaxopt_tut.taps.tracing import trace_program, traced_leaves
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Batch, LossFn, Params

SATURATED_SLOPE = 0.05
"""A unit counts as saturated where its activation's slope is below this, but not its value zero."""


class LayerStatistics(NamedTuple):
    r"""What is known of a layer $z = W x + b$, $a = \phi(z)$; inside scans one entry a step.

    Attributes:
      weights: Of $W$.
      pre_activations: Of $z$.
      activations: Of $a$; of $z$ where no nonlinearity follows.
      cotangents: Of $\partial L / \partial z$.
      weight_gradients: Of $\partial L / \partial W$.
      inputs: Of $x$; None for what a scan hands to its step.
      fraction_dead: Of the units whose activation is zero for the whole batch.
      fraction_saturated: Of the activations that are not zero but have a slope
        $|\phi'| < 0.05$.
      correlation: Between the pre-activations of two examples, $E[z z'] / E[z^2]$.
      distinct_gradients: Number of units whose weight gradients are not zero and differ.
      active_gradients: Number of units whose weight gradients are not zero.
      update_ratio: Root mean square of the update over that of $W$; NaN without an optimizer.
    """

    weights: Summary
    pre_activations: Summary
    activations: Summary
    cotangents: Summary
    weight_gradients: Summary
    inputs: Summary | None
    fraction_dead: Float[Array, "*step"]
    fraction_saturated: Float[Array, "*step"]
    correlation: Float[Array, "*step"]
    distinct_gradients: Int[Array, "*step"]
    active_gradients: Int[Array, "*step"]
    update_ratio: Float[Array, "*step"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Statistics:
    """What `statistics` measures.

    Attributes:
      layers: By name, in the order of the program.
      loss: On the batch.
      loss_after_update: On the same batch after one step of the optimizer; NaN without one.
      expected_change: What the gradient predicts for the step: its inner product with the update.
      wiring: For each layer how it is joined to the others; part of the tree's structure.
    """

    layers: Tape
    loss: Float[Array, ""]
    loss_after_update: Float[Array, ""]
    expected_change: Float[Array, ""]
    wiring: tuple[Layer, ...] = field(metadata={"static": True})


def statistics(
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> Statistics:
    r"""Measure every layer of a network in one forward and one backward pass.

    $$z_l = W_l x_l + b_l, \quad a_l = \phi(z_l), \quad
      \delta_l = \frac{\partial L}{\partial z_l}, \quad
      G_l = \frac{\partial L}{\partial W_l}$$

    A layer is a contraction of data with a weight, found in the program of any function; layers
    whose cotangent JAX does not define (in a `while_loop`) are left out. Use it inside `jit`, to
    keep a history while training for instance; `diagnose` compiles it and reads it. Costs about
    one gradient, and one more evaluation of the loss with an optimizer.

    Args:
      loss_fn: `loss_fn(params, batch)` returns a scalar or a pair `(scalar, aux)`.
      params: The parameters; leaves that are no arrays are held fixed.
      batch: At least two examples.
      optimizer: Its first step gives the ratios of update and weight.

    Returns:
      The statistics.

    Raises:
      TypeError: If `loss_fn` cannot be traced, or a parameter is an integer array.
      ValueError: If no weight meets data, the batch holds one example, or the loss is no real
        scalar.

    Example:
      >>> from jaxopt_tut.models import mlp
      >>> params = mlp.init(jax.random.key(0), (4, 8, 3))
      >>> def loss_fn(params, x):
      ...     return jnp.mean(mlp.apply(params, x) ** 2)
      >>> measured = jax.jit(statistics, static_argnums=0)(loss_fn, params, jnp.ones((5, 4)))
      >>> list(measured.layers), measured.layers["0/kernel"].correlation.round(3).item()
      (['0/kernel', '1/kernel'], 1.0)
    """
    return measure("statistics", loss_fn, params, batch, optimizer)


def measure(caller: str, loss_fn, params, batch, optimizer=None) -> Statistics:
    """Do what `statistics` does, on behalf of `caller`, who opens the messages."""
    leaves, treedef = jax.tree.flatten(params)
    is_traced = traced_leaves(params)
    kept = [leaf if traced else None for leaf, traced in zip(leaves, is_traced, strict=True)]
    require_inexact(jax.tree.unflatten(treedef, kept), caller)
    program = trace_program(caller, loss_fn, (params, batch), may_close_over=False)
    _require_loss(caller, program.result)
    layers = readable_layers(caller, find_layers(program))
    num_params = sum(is_traced)
    arrays, data = program.arrays[:num_params], program.arrays[num_params:]
    numbers = _number_places(layers)
    bumps = {
        numbers[place]: jnp.zeros(site.shape, site.dtype)
        for layer in layers
        for place, site in (
            (layer.place, layer.pre_activation),
            (layer.bend_place, layer.bend),
            (layer.activation_place, layer.activation),
        )
        if place is not None and site is not None and not site.blocked_by
    }

    def loss_and_values(arrays, bumps):
        outputs, values, _ = evaluate(program.jaxpr, [*arrays, *data], numbers, bumps)
        return outputs[0], values

    (loss, values), (gradients, cotangents) = jax.value_and_grad(
        loss_and_values, argnums=(0, 1), has_aux=True
    )(arrays, bumps)
    updates, after, change = _first_step(
        loss_fn, params, batch, is_traced, gradients, optimizer, loss.dtype
    )
    index = {name: i for i, name in enumerate(program.names) if name is not None}
    measured = {}
    for layer in layers:
        i = index[layer.param]
        inputs = (
            values[numbers[layer.input_place]]
            if layer.input_place is not None
            else program.arrays[layer.input_index]
            if layer.input_index is not None
            else None
        )
        seen = _Seen(values, cotangents, numbers)
        update = None if updates is None else updates[i]
        measured[layer.name] = _layer(layer, arrays[i], gradients[i], update, inputs, seen)
    tape = Tape(_summarized(measured))
    return Statistics(tape, loss, after, change, tuple(layers))


def _require_loss(caller, result) -> None:
    """Refuse what is no loss, with or without more beside it."""
    has_aux = isinstance(result, tuple) and len(result) == 2
    loss = result[0] if has_aux else result
    shape, dtype = getattr(loss, "shape", None), getattr(loss, "dtype", bool)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        got = f"{dtype}{list(shape)}" if shape is not None else type(loss).__name__
        raise ValueError(
            f"{caller} needs a loss that is a real scalar, alone or first of a pair, got {got}."
        )


def readable_layers(caller: str, layers: list[Layer]) -> list[Layer]:
    """Keep the layers that have a cotangent, and refuse a function without any.

    Args:
      caller: The name of the function that asks; it opens the messages.
      layers: What `find_layers` returned.

    Returns:
      Some of the layers.

    Raises:
      ValueError: If there is none, or the batch holds a single example.
    """
    if not layers:
        raise ValueError(f"{caller} found no layer: no weight among the parameters meets data.")
    kept = [layer for layer in layers if not layer.pre_activation.blocked_by]
    if not kept:
        site = layers[0].pre_activation
        raise ValueError(
            f"{caller} cannot reach {site.name!r}: it lies inside {site.blocked_by}, where JAX "
            "defines no cotangent."
        )
    for layer in kept:
        site = layer.pre_activation
        if site.batch_axes and all(site.shape[axis] == 1 for axis in site.batch_axes):
            raise ValueError(
                f"{caller} needs a batch of at least two examples, got one at {site.name!r}."
            )
    return kept


def _summarized(measured: dict[str, dict[str, Any]]) -> dict[str, LayerStatistics]:
    places = [
        (name, quantity)
        for name, quantities in measured.items()
        for quantity, value in quantities.items()
        if isinstance(value, tuple)
    ]
    summaries = summarize_all([measured[name][quantity] for name, quantity in places])
    for (name, quantity), summary in zip(places, summaries, strict=True):
        measured[name][quantity] = summary
    return {name: LayerStatistics(**quantities) for name, quantities in measured.items()}


class _Seen(NamedTuple):
    """Values and cotangents by number, and the numbers by place."""

    values: dict[int, Array]
    cotangents: dict[int, Array]
    numbers: dict[Any, int]


def _number_places(layers) -> dict[Any, int]:
    places = [
        place
        for layer in layers
        for place in (layer.place, layer.bend_place, layer.activation_place, layer.input_place)
        if place is not None
    ]
    return {place: k for k, place in enumerate(dict.fromkeys(places))}


def _first_step(loss_fn, params, batch, is_traced, gradients, optimizer, dtype):
    """Return the updates of the arrays, the loss after them, and the change they promise."""
    missing = jnp.full((), jnp.nan, dtype)
    if optimizer is None:
        return None, missing, missing
    leaves, treedef = jax.tree.flatten(params)
    in_order = iter(gradients)
    gradient = treedef.unflatten([next(in_order) if t else None for t in is_traced])
    arrays = treedef.unflatten([x if t else None for x, t in zip(leaves, is_traced, strict=True)])

    def value_fn(arrays):
        fresh = iter(jax.tree.leaves(arrays))
        merged = [next(fresh) if t else x for x, t in zip(leaves, is_traced, strict=True)]
        result = loss_fn(treedef.unflatten(merged), batch)
        return result[0] if isinstance(result, tuple) else result

    # By the conventions of JAX and optax the direction of ascent is the conjugate.
    gradient = jax.tree.map(jnp.conj, gradient)
    optimizer = optax.with_extra_args_support(optimizer)
    updates, _ = optimizer.update(
        gradient,
        optimizer.init(arrays),
        arrays,
        value=value_fn(arrays),
        grad=gradient,
        value_fn=value_fn,
    )
    after = value_fn(optax.apply_updates(arrays, updates))
    products = jax.tree.map(lambda g, u: jnp.sum(jnp.real(jnp.conj(g) * u)), gradient, updates)
    change = sum((leaf.astype(dtype) for leaf in jax.tree.leaves(products)), jnp.zeros((), dtype))
    return jax.tree.leaves(updates), after, change


def _layer(layer: Layer, weight, gradient, update, inputs, seen: _Seen) -> dict[str, Any]:
    """Compute the fields of `LayerStatistics`, with arrays where summaries will be."""
    steps, weight_steps = layer.num_step_axes, layer.num_weight_steps
    number = seen.numbers[layer.place]
    value, cotangent = seen.values[number], seen.cotangents[number]
    site, bent = layer.activation, value
    zeros = jnp.zeros(value.shape[:steps], real(value).dtype)
    dead = saturated = zeros
    if site is not None and layer.activation_place is not None:
        bent = seen.values[seen.numbers[layer.activation_place]]
        dead = _fraction_dead(bent, site, steps)
        after = seen.cotangents.get(seen.numbers[layer.activation_place])
        before = seen.cotangents.get(seen.numbers[layer.bend_place])
        if after is not None and before is not None and before.shape == after.shape == bent.shape:
            saturated = _fraction_saturated(bent, before, after, steps)
    distinct, active = _distinct_units(gradient, layer.unit_axes, weight_steps)
    ratio = jnp.full(weight.shape[:weight_steps], jnp.nan, real(weight).dtype)
    if update is not None:
        sizes = [_mean_square(x, weight_steps) for x in (update, weight)]
        quotient = sizes[0] / jnp.where(sizes[1] > 0, sizes[1], 1)
        ratio = jnp.where(sizes[1] > 0, jnp.sqrt(quotient), jnp.nan)
    return dict(
        weights=(weight, weight_steps),
        pre_activations=(value, steps),
        activations=(bent, steps),
        cotangents=(cotangent, steps),
        weight_gradients=(gradient, weight_steps),
        inputs=None if inputs is None else (inputs, steps),
        fraction_dead=dead,
        fraction_saturated=saturated,
        correlation=_correlation(value, layer.pre_activation, steps),
        distinct_gradients=distinct,
        active_gradients=active,
        update_ratio=ratio,
    )


def _rest(array, steps) -> tuple[int, ...]:
    return tuple(range(steps, array.ndim))


def _mean_square(array, steps):
    return jnp.mean(real(array) ** 2, axis=_rest(array, steps))


def _fraction_dead(activation, site, steps):
    units = site.unit_axes or (activation.ndim - 1,)
    others = tuple(axis for axis in _rest(activation, steps) if axis not in units)
    is_dead = jnp.all(activation == 0, axis=others, keepdims=True)
    return jnp.mean(is_dead, axis=_rest(is_dead, steps), dtype=real(activation).dtype)


def _fraction_saturated(activation, before, after, steps):
    r"""Use that $\partial L/\partial z = \phi'(z)\,\partial L/\partial a$ tells the slope."""
    is_flat = jnp.abs(before) < SATURATED_SLOPE * jnp.abs(after)
    is_known = after != 0
    axes, dtype = _rest(activation, steps), real(activation).dtype
    flat = jnp.mean(is_flat & is_known & (activation != 0), axis=axes, dtype=dtype)
    known = jnp.mean(is_known, axis=axes, dtype=dtype)
    return flat / jnp.where(known > 0, known, 1)


def _correlation(value, site, steps):
    r"""Average over pairs of examples: $\sum_{i \ne j} z_i z_j = (\sum z_i)^2 - \sum z_i^2$."""
    units = site.unit_axes or (value.ndim - 1,)
    examples = site.batch_axes or tuple(a for a in _rest(value, steps) if a not in units)
    value = real(value)
    n = math.prod(value.shape[axis] for axis in examples)
    square = _mean_square(value, steps)
    mean = jnp.mean(value, axis=examples, keepdims=True)
    crossed = n * _mean_square(mean, steps) - square
    safe = jnp.where(square > 0, square, 1)
    return jnp.where(square > 0, crossed / (max(n - 1, 1) * safe), jnp.nan)


def _distinct_units(gradient, unit_axes, steps):
    """Count the units whose gradient is not zero, and the different gradients among them.

    Each unit's gradient is told by its product with one fixed vector. Equal ones may differ by
    rounding, some eps * sqrt(fan_in) < 1e-5 in single precision; different ones agree to that by
    chance about once in 10^5 pairs.
    """
    if steps:
        return jax.vmap(lambda part: _distinct_units(part, unit_axes, steps - 1))(gradient)
    if not gradient.size:
        return jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    front = tuple(range(len(unit_axes)))
    units = jnp.moveaxis(real(gradient), unit_axes, front)
    units = units.reshape(math.prod(units.shape[: len(front)]), -1)
    sizes = jnp.max(jnp.abs(units), axis=1)
    is_active = sizes > 0
    # Scaled so that gradients near the smallest number do not vanish in the product.
    largest = jnp.max(sizes)
    scaled = units / jnp.where(largest > 0, largest, 1)
    probe = jnp.cos(1.0 + jnp.arange(units.shape[1], dtype=units.dtype))
    marks = jnp.sort(jnp.where(is_active, scaled @ probe, jnp.inf))
    gaps = jnp.diff(marks, prepend=-jnp.inf)
    finite = jnp.isfinite(marks)
    tolerance = 1e-5 * jnp.max(jnp.where(finite, jnp.abs(marks), 0))
    return (
        jnp.sum(finite & (gaps > tolerance), dtype=jnp.int32),
        jnp.sum(is_active, dtype=jnp.int32),
    )
