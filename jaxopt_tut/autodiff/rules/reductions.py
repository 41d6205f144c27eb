# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Sums, products and extrema over axes."""

import math
from typing import Any

import jax
from jax import lax

from jaxopt_tut.autodiff import loops
from jaxopt_tut.autodiff.program import Program, flatten
from jaxopt_tut.autodiff.registry import Derivatives, Integer, Needed, Values, define, define_push


def spread(g: Any, shape: tuple, axes: tuple) -> Any:
    """Repeat a reduced array along the axes that the reduction removed."""
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    return lax.broadcast_in_dim(g, shape, kept)


@define("reduce_sum")
def _sum_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    axes: tuple[Integer, ...],
    **params: Any,
) -> Derivatives:
    return [spread(cotangents[0], inputs[0].shape, axes)]


@define_push("reduce_sum")
def _sum_push(
    tangents: Derivatives,
    inputs: Values,
    outputs: Values,
    *,
    axes: tuple[Integer, ...],
    **params: Any,
) -> Derivatives:
    return [lax.reduce_sum(tangents[0], axes)]


def _hits(x: Any, ans: Any, axes: tuple) -> tuple[Any, Any]:
    """Mark the places where the extremum is attained, and count them."""
    hit = lax.convert_element_type(lax.eq(x, spread(ans, x.shape, axes)), x.dtype)
    return hit, lax.reduce_sum(hit, axes)


def _extremum_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    axes: tuple[Integer, ...],
    **params: Any,
) -> Derivatives:
    (g,), (x,), (ans,) = cotangents, inputs, outputs
    hit, count = _hits(x, ans, axes)
    return [lax.mul(spread(lax.div(g, count), x.shape, axes), hit)]


def _extremum_push(
    tangents: Derivatives,
    inputs: Values,
    outputs: Values,
    *,
    axes: tuple[Integer, ...],
    **params: Any,
) -> Derivatives:
    (t,), (x,), (ans,) = tangents, inputs, outputs
    hit, count = _hits(x, ans, axes)
    return [lax.div(lax.reduce_sum(lax.mul(t, hit), axes), count)]


for _name in ("reduce_max", "reduce_min"):
    define(_name)(_extremum_rule)
    define_push(_name)(_extremum_push)


def _product_tree(x: Any, axes: tuple) -> Program:
    """Multiply halves with each other: no factor is divided out, so a zero does no harm."""

    def multiply(x: Any) -> Any:
        kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
        count = math.prod(x.shape[axis] for axis in axes)
        shape = tuple(x.shape[axis] for axis in kept)
        x = lax.reshape(lax.transpose(x, (*axes, *kept)), (count, *shape))
        while len(x) > 1:
            half = (len(x) + 1) // 2
            gap = [(0, 2 * half - len(x), 0)] + [(0, 0, 0)] * len(kept)
            rest = lax.pad(lax.slice_in_dim(x, half, None), lax.full((), 1, x.dtype), gap)
            x = lax.mul(lax.slice_in_dim(x, 0, half), rest)
        return lax.squeeze(x, (0,)) if count else lax.full(shape, 1, x.dtype)

    return flatten(jax.make_jaxpr(multiply)(jax.ShapeDtypeStruct(x.shape, x.dtype)))


@define("reduce_prod")
def _product_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    axes: tuple[Integer, ...],
    **params: Any,
) -> Derivatives:
    program = _product_tree(inputs[0], axes)
    env = loops.evaluate(program, inputs)
    return [loops.backpropagate(program, env, {}, cotangents, program.floating)[program.inputs[0]]]


@define_push("reduce_prod")
def _product_push(
    tangents: Derivatives,
    inputs: Values,
    outputs: Values,
    *,
    axes: tuple[Integer, ...],
    **params: Any,
) -> Derivatives:
    return loops.evaluate_with_tangents(_product_tree(inputs[0], axes), inputs, tangents)[1]
