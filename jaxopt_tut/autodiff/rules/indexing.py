# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Gather reads numbers at places, scatter writes them: each is the other's transpose."""

from typing import Any

import numpy as np
from jax import lax

from jaxopt_tut.autodiff.registry import (
    Derivatives,
    Integer,
    Needed,
    Values,
    define,
    define_push,
    primitive_named,
)


@define("gather")
def _gather_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension_numbers: lax.GatherDimensionNumbers,
    slice_sizes: tuple[Integer, ...],
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: Any,
    fill_value: Any,
) -> Derivatives:
    (g,), (x, indices) = cotangents, inputs
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=dimension_numbers.offset_dims,
        inserted_window_dims=dimension_numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=dimension_numbers.start_index_map,
        operand_batching_dims=dimension_numbers.operand_batching_dims,
        scatter_indices_batching_dims=dimension_numbers.start_indices_batching_dims,
    )
    zeros = lax.full(x.shape, 0, g.dtype)
    found = lax.scatter_add(
        zeros, indices, g, numbers, indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices, mode=mode,
    )  # fmt: skip
    return [found, None]


@define_push("gather")
def _gather_push(
    tangents: Derivatives, inputs: Values, outputs: Values, **params: Any
) -> Derivatives:
    """Read the tangent; what is filled in outside of the array does not move."""
    return [primitive_named("gather").bind(tangents[0], inputs[1], **{**params, "fill_value": 0})]


def _read_updates(g: Any, indices: Any, updates: Any, numbers: Any, params: dict) -> Any:
    """Read from `g` the places that a scatter wrote its updates to."""
    window = iter(numbers.update_window_dims)
    absent = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    sizes = tuple(1 if k in absent else updates.shape[next(window)] for k in range(g.ndim))
    gather_numbers = lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    return lax.gather(
        g, indices, gather_numbers, sizes, mode=params["mode"], fill_value=0,
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
    )  # fmt: skip


def _options(params: dict) -> dict:
    return {name: params[name] for name in ("indices_are_sorted", "unique_indices", "mode")}


@define("scatter_add")
def _scatter_add_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension_numbers: lax.ScatterDimensionNumbers,
    **params: Any,
) -> Derivatives:
    (g,), (_, indices, updates) = cotangents, inputs
    read = None
    if needed[2]:
        read = _read_updates(g, indices, updates, dimension_numbers, params)
    return [g if needed[0] else None, None, read]


@define("scatter_sub")
def _scatter_sub_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension_numbers: lax.ScatterDimensionNumbers,
    **params: Any,
) -> Derivatives:
    (g,), (_, indices, updates) = cotangents, inputs
    read = None
    if needed[2]:
        read = lax.neg(_read_updates(g, indices, updates, dimension_numbers, params))
    return [g if needed[0] else None, None, read]


@define("scatter")
def _scatter_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension_numbers: lax.ScatterDimensionNumbers,
    **params: Any,
) -> Derivatives:
    """Cut out what was overwritten; where two updates met, only the one that stayed counts."""
    (g,), (x, indices, updates) = cotangents, inputs
    options = _options(params)
    kept = read = None
    if needed[0]:
        whole, hole = lax.full(g.shape, True), lax.full(updates.shape, False)
        outside = lax.scatter(whole, indices, hole, dimension_numbers, **options)
        kept = lax.select(outside, g, lax.full_like(g, 0))
    if needed[2]:
        read = _read_updates(g, indices, updates, dimension_numbers, params)
        if not params["unique_indices"]:
            labels = lax.reshape(lax.iota(np.int32, updates.size), updates.shape)
            board = lax.full(x.shape, -1, np.int32)
            board = lax.scatter(board, indices, labels, dimension_numbers, **options)
            stayed = lax.eq(
                _read_updates(board, indices, labels, dimension_numbers, params), labels
            )
            read = lax.select(stayed, read, lax.full_like(read, 0))
    return [kept, None, read]


@define("scatter_mul")
def _scatter_mul_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension_numbers: lax.ScatterDimensionNumbers,
    **params: Any,
) -> Derivatives:
    """Differentiate `x[i] *= u` for distinct places `i`."""
    (g,), (x, indices, updates) = cotangents, inputs
    if not params["unique_indices"]:
        raise NotImplementedError("scatter_mul has a derivative only with unique_indices=True.")
    options = _options(params)
    kept = read = None
    if needed[0]:
        kept = lax.scatter_mul(g, indices, updates, dimension_numbers, **options)
    if needed[2]:
        read = _read_updates(lax.mul(g, x), indices, updates, dimension_numbers, params)
    return [kept, None, read]


def _scatter_extremum(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension_numbers: lax.ScatterDimensionNumbers,
    **params: Any,
) -> Derivatives:
    """Share equally among the number that was there and the updates that attain the extremum."""
    (g,), (x, indices, updates), (ans,) = cotangents, inputs, outputs
    options = _options(params)

    def read(values: Any) -> Any:
        return _read_updates(values, indices, updates, dimension_numbers, params)

    blank, mark = lax.full(x.shape, 0, g.dtype), lax.full(updates.shape, 1, g.dtype)
    reached = lax.scatter_add(blank, indices, mark, dimension_numbers, **options)
    stays = lax.bitwise_or(lax.eq(x, ans), lax.eq(reached, blank))
    enters = lax.eq(updates, read(ans))
    votes = lax.scatter_add(
        lax.convert_element_type(stays, g.dtype), indices,
        lax.convert_element_type(enters, g.dtype), dimension_numbers, **options,
    )  # fmt: skip
    share = lax.div(g, lax.max(votes, lax.full_like(votes, 1)))
    kept = lax.select(stays, share, lax.full_like(share, 0))
    taken = read(share)
    return [kept, None, lax.select(enters, taken, lax.full_like(taken, 0))]


define("scatter_max")(_scatter_extremum)
define("scatter_min")(_scatter_extremum)


@define("sort")
def _sort_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension: Integer,
    is_stable: bool,
    num_keys: Integer,
) -> Derivatives:
    """Sort the places along with the numbers, then send each cotangent back to its place."""
    shape = inputs[0].shape
    places = lax.broadcasted_iota(np.int32, shape, dimension)
    *_, origin = lax.sort(
        (*inputs, places), dimension=dimension, is_stable=is_stable, num_keys=num_keys
    )
    _, inverse = lax.sort((origin, places), dimension=dimension, num_keys=1)
    return [
        _take_along(g, inverse, dimension) if wanted and g is not None else None
        for g, wanted in zip(cotangents, needed, strict=True)
    ]


def _along(shape: tuple, axis: Integer) -> tuple:
    """Name the batching axes for indexing along one axis of equally shaped arrays."""
    return tuple(k for k in range(len(shape)) if k != axis)


def _take_along(x: Any, places: Any, axis: Integer) -> Any:
    batch = _along(x.shape, axis)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
        operand_batching_dims=batch,
        start_indices_batching_dims=batch,
    )
    indices = lax.expand_dims(places, (places.ndim,))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.gather(x, indices, numbers, (1,) * x.ndim, mode=mode)


@define("top_k")
def _top_k_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    (g, _), (x,), (_, places) = cotangents, inputs, outputs
    if g is None:
        return [None]
    axis = params.get("axis", x.ndim - 1) % x.ndim
    batch = _along(x.shape, axis)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=batch,
        scatter_indices_batching_dims=batch,
    )
    zeros = lax.full(x.shape, 0, g.dtype)
    indices = lax.expand_dims(places, (places.ndim,))
    return [lax.scatter_add(zeros, indices, g, numbers, unique_indices=True)]
