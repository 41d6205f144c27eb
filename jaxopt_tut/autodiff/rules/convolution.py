# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Convolutions and pooling windows.

With $y = x * w$ the adjoint of $x$ is a convolution of $\bar y$ with the mirrored kernel, and
that of $w$ a convolution of $x$ with $\bar y$; strides and dilations change places.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.extend import core

from jaxopt_tut.autodiff.registry import (
    Derivatives,
    Integer,
    Needed,
    Value,
    Values,
    define,
    define_push,
    primitive_named,
)
from jaxopt_tut.autodiff.rules.shape import push_linear


@define("conv_general_dilated")
def _conv_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    batch_group_count: Integer,
    preferred_element_type: Any,
    **params: Any,
) -> Derivatives:
    (g,), (x, kernel) = cotangents, inputs
    options = {"preferred_element_type": preferred_element_type, **params}
    options.pop("out_sharding", None)
    if batch_group_count > 1:
        return _grouped_batch(g, x, kernel, needed, batch_group_count, options)
    # The result may be wider than the factors: preferred_element_type.
    wide_x, wide_kernel = (lax.convert_element_type(v, g.dtype) for v in inputs)
    back = [
        _conv_input(g, x, wide_kernel, **options) if needed[0] else None,
        _conv_kernel(g, wide_x, kernel, **options) if needed[1] else None,
    ]
    return [
        found if found is None else lax.convert_element_type(found, like.dtype)
        for found, like in zip(back, inputs, strict=True)
    ]


def _grouped_batch(
    g: Any, x: Any, kernel: Any, needed: Needed, count: Integer, options: dict
) -> list:
    """Transpose a convolution with grouped batches (rare: the gradient of a grouped one)."""

    def conv(left: Any, right: Any) -> Any:
        return lax.conv_general_dilated(left, right, batch_group_count=count, **options)

    of_x = jax.linear_transpose(lambda v: conv(v, kernel), x)
    of_kernel = jax.linear_transpose(lambda v: conv(x, v), kernel)
    return [of_x(g)[0] if needed[0] else None, of_kernel(g)[0] if needed[1] else None]


def _extents(sizes: Any, dilation: Any) -> list[int]:
    """Return how far an array reaches when gaps are put between its numbers."""
    return [(n - 1) * step + 1 if n else 0 for n, step in zip(sizes, dilation, strict=True)]


def _swapped(spec: Sequence[Integer]) -> tuple[int, ...]:
    return (spec[1], spec[0], *spec[2:])


def _conv_input(
    g: Array,
    x: Value,
    kernel: Value,
    *,
    window_strides: Sequence[Integer],
    padding: Sequence[tuple[Integer, Integer]],
    lhs_dilation: Sequence[Integer],
    rhs_dilation: Sequence[Integer],
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: Integer,
    precision: Any,
    preferred_element_type: Any,
) -> Array:
    x_spec, kernel_spec, out_spec = dimension_numbers
    window = _extents([kernel.shape[k] for k in kernel_spec[2:]], rhs_dilation)
    reach_x = _extents([x.shape[k] for k in x_spec[2:]], lhs_dilation)
    reach_g = _extents([g.shape[k] for k in out_spec[2:]], window_strides)
    pads = []
    for (low, _), w, n, m in zip(padding, window, reach_x, reach_g, strict=True):
        before = w - 1 - low
        pads.append((before, n + w - 1 - m - before))
    if feature_group_count > 1:
        kernel = _regroup(kernel, kernel_spec[0], kernel_spec[1], feature_group_count)
    return lax.conv_general_dilated(
        g, lax.rev(kernel, kernel_spec[2:]), window_strides=lhs_dilation, padding=pads,
        lhs_dilation=window_strides, rhs_dilation=rhs_dilation,
        dimension_numbers=lax.ConvDimensionNumbers(out_spec, _swapped(kernel_spec), x_spec),
        feature_group_count=feature_group_count, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def _regroup(kernel: Any, outer: Integer, inner: Integer, groups: Integer) -> Any:
    """Move the groups from the output channels of a kernel to its input channels."""
    shape = list(kernel.shape)
    shape[outer : outer + 1] = [groups, shape[outer] // groups]
    split = lax.reshape(kernel, shape)
    place = inner + (inner > outer)
    order = [k for k in range(split.ndim) if k != outer]
    order.insert(order.index(place), outer)
    moved = lax.transpose(split, order)
    merged = list(kernel.shape)
    merged[outer] //= groups
    merged[inner] *= groups
    return lax.reshape(moved, merged)


def _conv_kernel(
    g: Array,
    x: Value,
    kernel: Value,
    *,
    window_strides: Sequence[Integer],
    padding: Sequence[tuple[Integer, Integer]],
    lhs_dilation: Sequence[Integer],
    rhs_dilation: Sequence[Integer],
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: Integer,
    precision: Any,
    preferred_element_type: Any,
) -> Array:
    x_spec, kernel_spec, out_spec = dimension_numbers
    window = _extents([kernel.shape[k] for k in kernel_spec[2:]], rhs_dilation)
    reach_x = _extents([x.shape[k] for k in x_spec[2:]], lhs_dilation)
    reach_g = _extents([g.shape[k] for k in out_spec[2:]], window_strides)
    pads = [
        (low, w - 1 + m - n - low)
        for (low, _), w, n, m in zip(padding, window, reach_x, reach_g, strict=True)
    ]
    return lax.conv_general_dilated(
        x, g, window_strides=rhs_dilation, padding=pads, lhs_dilation=lhs_dilation,
        rhs_dilation=window_strides,
        dimension_numbers=lax.ConvDimensionNumbers(
            _swapped(x_spec), _swapped(out_spec), _swapped(kernel_spec)
        ),
        batch_group_count=feature_group_count, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


@define_push("conv_general_dilated")
def _conv_push(
    tangents: Derivatives, inputs: Values, outputs: Values, **params: Any
) -> Derivatives:
    conv = primitive_named("conv_general_dilated")
    (x, kernel), (dx, dkernel) = inputs, tangents
    terms = []
    if dx is not None:
        terms.append(conv.bind(dx, kernel, **params))
    if dkernel is not None:
        terms.append(conv.bind(x, dkernel, **params))
    return [terms[0] if len(terms) == 1 else lax.add(*terms)]


@define("reduce_window_sum")
def _window_sum_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    window_dimensions: Sequence[Integer],
    window_strides: Sequence[Integer],
    padding: Sequence[tuple[Integer, Integer]],
    base_dilation: Sequence[Integer],
    window_dilation: Sequence[Integer],
) -> Derivatives:
    """Spread each window's cotangent over the window: a convolution with ones."""
    (g,), (x,) = cotangents, inputs
    window = _extents(window_dimensions, window_dilation)
    reach_x = _extents(x.shape, base_dilation)
    reach_g = _extents(g.shape, window_strides)
    config = []
    for (low, _), w, n, m, step in zip(
        padding, window, reach_x, reach_g, window_strides, strict=True
    ):
        before = w - 1 - low
        config.append((before, n + w - 1 - m - before, step - 1))
    zero = lax.full((), 0, g.dtype)
    wide = lax.pad(g, zero, config)
    found = primitive_named("reduce_window_sum").bind(
        wide, window_dimensions=window_dimensions, window_strides=base_dilation,
        padding=((0, 0),) * x.ndim, base_dilation=(1,) * x.ndim, window_dilation=window_dilation,
    )  # fmt: skip
    return [found]


push_linear("reduce_window_sum")


def _scatter_windows(
    g: Array,
    x: Value,
    *,
    select_prim: core.Primitive,
    window_dimensions: Sequence[Integer],
    window_strides: Sequence[Integer],
    padding: Sequence[tuple[Integer, Integer]],
    base_dilation: Sequence[Integer],
    window_dilation: Sequence[Integer],
) -> Array:
    """Send each window's number to the first place where the extremum is attained."""
    identity = np.asarray(-np.inf if select_prim.name == "ge" else np.inf, x.dtype)
    rank = range(x.ndim)
    if set(window_dilation) == {1}:
        gaps = [(0, 0, step - 1) for step in base_dilation]
        wide = lax.pad(x, identity, gaps) if set(base_dilation) != {1} else x
        found = primitive_named("select_and_scatter_add").bind(
            g, wide, select_prim=select_prim, window_dimensions=window_dimensions,
            window_strides=window_strides, padding=padding,
        )  # fmt: skip
        return lax.slice(found, (0,) * x.ndim, found.shape, base_dilation)
    # No primitive for gaps in the window: compare its places one by one.
    config = [(*padding[k], base_dilation[k] - 1) for k in rank]
    wide = lax.pad(x, identity, config)
    places = list(itertools.product(*(range(size) for size in window_dimensions)))
    starts = [[place[k] * window_dilation[k] for k in rank] for place in places]
    reach = [(g.shape[k] - 1) * window_strides[k] + 1 for k in rank]
    best, chosen = None, lax.full(g.shape, 0, np.int32)
    for number, start in enumerate(starts):
        stop = [first + length for first, length in zip(start, reach, strict=True)]
        seen = lax.slice(wide, start, stop, window_strides)
        if best is None:
            best = seen
            continue
        kept = select_prim.bind(best, seen)
        best = lax.select(kept, best, seen)
        chosen = lax.select(kept, chosen, lax.full_like(chosen, number))
    zero = lax.full((), 0, g.dtype)
    total = lax.full(wide.shape, 0, g.dtype)
    for number, start in enumerate(starts):
        hit = lax.eq(chosen, lax.full_like(chosen, number))
        back = [
            (start[k], wide.shape[k] - start[k] - reach[k], window_strides[k] - 1) for k in rank
        ]
        total = lax.add(total, lax.pad(lax.select(hit, g, lax.full_like(g, 0)), zero, back))
    cropped = lax.pad(total, zero, [(-low, -high, 0) for low, high in padding])
    return lax.slice(cropped, (0,) * x.ndim, cropped.shape, base_dilation)


def _window_extremum(name: str, select: str) -> None:
    @define(name)
    def rule(
        cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
    ) -> Derivatives:
        select_prim = primitive_named(select)
        return [_scatter_windows(cotangents[0], inputs[0], select_prim=select_prim, **params)]

    @define_push(name)
    def push(tangents: Derivatives, inputs: Values, outputs: Values, **params: Any) -> Derivatives:
        gather = primitive_named("select_and_gather_add")
        select_prim = primitive_named(select)
        return [gather.bind(tangents[0], inputs[0], select_prim=select_prim, **params)]


_window_extremum("reduce_window_max", "ge")
_window_extremum("reduce_window_min", "le")


@define("select_and_scatter_add")
def _scatter_windows_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    """Read back from the selected places; the operand only says which, so it gets nothing."""
    (g,), (_, x) = cotangents, inputs
    ones = (1,) * x.ndim
    gather = primitive_named("select_and_gather_add")
    return [gather.bind(g, x, base_dilation=ones, window_dilation=ones, **params), None]


@define_push("select_and_scatter_add")
def _scatter_windows_push(
    tangents: Derivatives, inputs: Values, outputs: Values, **params: Any
) -> Derivatives:
    if tangents[0] is None:
        return [None]
    scatter = primitive_named("select_and_scatter_add")
    return [scatter.bind(tangents[0], inputs[1], **params)]


@define("select_and_gather_add")
def _gather_windows_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    return [_scatter_windows(cotangents[0], inputs[1], **params), None]


@define_push("select_and_gather_add")
def _gather_windows_push(
    tangents: Derivatives, inputs: Values, outputs: Values, **params: Any
) -> Derivatives:
    if tangents[0] is None:
        return [None]
    gather = primitive_named("select_and_gather_add")
    return [gather.bind(tangents[0], inputs[1], **params)]
