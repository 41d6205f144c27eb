# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Operations that move numbers: each is a 0-1 matrix, its rule the transposed move."""

from collections.abc import Sequence
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
from jaxopt_tut.autodiff.zeros import filled
from jaxopt_tut.types import Shape


def push_linear(name: str) -> None:
    """Let a primitive that is linear in its first input push tangents by itself."""
    primitive = primitive_named(name)

    @define_push(name)
    def push(tangents: Derivatives, inputs: Values, outputs: Values, **params: Any) -> Derivatives:
        out = primitive.bind(tangents[0], *inputs[1:], **params)
        return list(out) if primitive.multiple_results else [out]


for _name in ("reshape", "transpose", "squeeze", "expand_dims", "rev", "slice", "broadcast_in_dim"):
    push_linear(_name)


@define("broadcast_in_dim")
def _broadcast_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    shape: Shape,
    broadcast_dimensions: tuple[Integer, ...],
    **params: Any,
) -> Derivatives:
    (g,), x = cotangents, inputs[0]
    old = np.shape(x)
    stretched = [
        axis for axis, size in zip(broadcast_dimensions, old, strict=True) if size != shape[axis]
    ]
    added = [axis for axis in range(len(shape)) if axis not in broadcast_dimensions]
    total = lax.reduce_sum(g, tuple(added + stretched))
    found = total if total.shape == old else lax.reshape(total, old)
    return [found] + [None] * (len(inputs) - 1)


def _reshape_back(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimensions: tuple[Integer, ...] | None = None,
    **params: Any,
) -> Derivatives:
    """Undo a reshape, and the order of the axes that it may read its input in."""
    (g,), x = cotangents, inputs[0]
    if dimensions is None:
        found = lax.reshape(g, x.shape)
    else:
        read = lax.reshape(g, tuple(x.shape[axis] for axis in dimensions))
        found = lax.transpose(read, tuple(int(k) for k in np.argsort(dimensions)))
    return [found] + [None] * (len(inputs) - 1)


define("reshape")(_reshape_back)


def _drop_axes_back(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    return [lax.reshape(cotangents[0], inputs[0].shape)] + [None] * (len(inputs) - 1)


for _name in ("squeeze", "expand_dims"):
    define(_name)(_drop_axes_back)


@define("transpose")
def _transpose_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    permutation: tuple[Integer, ...],
) -> Derivatives:
    return [lax.transpose(cotangents[0], tuple(int(k) for k in np.argsort(permutation)))]


@define("rev")
def _rev_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimensions: tuple[Integer, ...],
) -> Derivatives:
    return [lax.rev(cotangents[0], dimensions)]


@define("concatenate")
def _concatenate_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, *, dimension: Integer
) -> Derivatives:
    (g,) = cotangents
    found: list[Any] = []
    start = 0
    for x, wanted in zip(inputs, needed, strict=True):
        stop = start + x.shape[dimension]
        piece = lax.slice_in_dim(g, start, stop, axis=dimension) if wanted else None
        found.append(piece)
        start = stop
    return found


@define_push("concatenate")
def _concatenate_push(
    tangents: Derivatives, inputs: Values, outputs: Values, *, dimension: Integer
) -> Derivatives:
    return [lax.concatenate(filled(tangents, inputs), dimension)]


@define("split")
def _split_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    sizes: tuple[Integer, ...],
    axis: Integer,
) -> Derivatives:
    return [lax.concatenate(filled(cotangents, outputs), axis)]


push_linear("split")


@define("pad")
def _pad_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    padding_config: Sequence[tuple[Integer, Integer, Integer]],
) -> Derivatives:
    (g,), (x, _) = cotangents, inputs
    zero = lax.full((), 0, g.dtype)
    cropped = lax.pad(g, zero, [(-low, -high, 0) for low, high, _ in padding_config])
    strides = [interior + 1 for _, _, interior in padding_config]
    own = lax.slice(cropped, [0] * x.ndim, cropped.shape, strides)
    axes = tuple(range(g.ndim))
    filler = None
    if needed[1]:
        filler = lax.sub(lax.reduce_sum(g, axes), lax.reduce_sum(own, axes))
    return [own if needed[0] else None, filler]


@define_push("pad")
def _pad_push(
    tangents: Derivatives,
    inputs: Values,
    outputs: Values,
    *,
    padding_config: Sequence[tuple[Integer, Integer, Integer]],
) -> Derivatives:
    moved, filler = filled(tangents, inputs)
    return [lax.pad(moved, filler, padding_config)]


@define("slice")
def _slice_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    start_indices: tuple[Integer, ...],
    limit_indices: tuple[Integer, ...],
    strides: tuple[Integer, ...] | None,
) -> Derivatives:
    (g,), (x,) = cotangents, inputs
    steps = strides or (1,) * x.ndim
    config = []
    for size, start, step, taken in zip(x.shape, start_indices, steps, g.shape, strict=True):
        reached = start + (taken - 1) * step + 1 if taken else start
        config.append((start, size - reached, step - 1))
    return [lax.pad(g, lax.full((), 0, g.dtype), config)]


@define("dynamic_slice")
def _dynamic_slice_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    (g,), (x, *starts) = cotangents, inputs
    zeros = lax.full(x.shape, 0, g.dtype)
    return [lax.dynamic_update_slice(zeros, g, starts)] + [None] * len(starts)


push_linear("dynamic_slice")


@define("dynamic_update_slice")
def _dynamic_update_slice_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    (g,), (_, update, *starts) = cotangents, inputs
    zeros = lax.full(update.shape, 0, g.dtype)
    kept = lax.dynamic_update_slice(g, zeros, starts) if needed[0] else None
    taken = lax.dynamic_slice(g, starts, update.shape) if needed[1] else None
    return [kept, taken] + [None] * len(starts)


@define_push("dynamic_update_slice")
def _dynamic_update_slice_push(
    tangents: Derivatives, inputs: Values, outputs: Values, **params: Any
) -> Derivatives:
    whole, update = filled(tangents[:2], inputs[:2])
    return [lax.dynamic_update_slice(whole, update, inputs[2:])]
