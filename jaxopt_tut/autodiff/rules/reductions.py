# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Sums, products and extrema over axes."""

import math
from typing import Any

import numpy as np
from jax import lax

from jaxopt_tut.autodiff.registry import define, define_push


def spread(g: Any, shape: tuple, axes: tuple) -> Any:
    """Repeat a reduced array along the axes that the reduction removed."""
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    return lax.broadcast_in_dim(g, shape, kept)


@define("reduce_sum")
def _sum_rule(cotangents, inputs, outputs, needed, *, axes, **params):
    return [spread(cotangents[0], inputs[0].shape, axes)]


@define_push("reduce_sum")
def _sum_push(tangents, inputs, outputs, *, axes, **params):
    return [lax.reduce_sum(tangents[0], axes)]


def _extremum_weights(x: Any, ans: Any, axes: tuple) -> Any:
    """Return equal weights on all places where the extremum is attained."""
    hit = lax.convert_element_type(lax.eq(x, spread(ans, x.shape, axes)), x.dtype)
    return lax.div(hit, spread(lax.reduce_sum(hit, axes), x.shape, axes))


def _extremum_rule(cotangents, inputs, outputs, needed, *, axes, **params):
    (g,), (x,), (ans,) = cotangents, inputs, outputs
    return [lax.mul(spread(g, x.shape, axes), _extremum_weights(x, ans, axes))]


def _extremum_push(tangents, inputs, outputs, *, axes, **params):
    (t,), (x,), (ans,) = tangents, inputs, outputs
    return [lax.reduce_sum(lax.mul(t, _extremum_weights(x, ans, axes)), axes)]


for _name in ("reduce_max", "reduce_min"):
    define(_name)(_extremum_rule)
    define_push(_name)(_extremum_push)


@define("reduce_prod")
def _product_rule(cotangents, inputs, outputs, needed, *, axes, **params):
    """Use the product of all others, so that a zero among the factors does no harm."""
    (g,), (x,) = cotangents, inputs
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    order = (*kept, *axes)
    count = math.prod(x.shape[axis] for axis in axes)
    lined = lax.reshape(lax.transpose(x, order), (*(x.shape[axis] for axis in kept), count))
    others = lax.mul(_exclusive_product(lined, False), _exclusive_product(lined, True))
    found = lax.mul(spread(g, others.shape, (others.ndim - 1,)), others)
    unlined = lax.reshape(found, tuple(x.shape[axis] for axis in order))
    return [lax.transpose(unlined, tuple(int(k) for k in np.argsort(order)))]


def _exclusive_product(x: Any, reverse: bool) -> Any:
    """Multiply all numbers before (or after) each along the last axis."""
    axis = x.ndim - 1
    if x.shape[axis] == 0:
        return x
    whole = lax.cumprod(x, axis, reverse)
    config = [(0, 0, 0)] * axis + [(-1, 1, 0) if reverse else (1, -1, 0)]
    return lax.pad(whole, lax.full((), 1, x.dtype), config)
