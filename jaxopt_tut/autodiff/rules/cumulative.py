# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Running sums, products and extrema.

For $a_i = \bigoplus_{k \le i} x_k$ the adjoints obey a recurrence from the last place to the
first, $r_i = \bar a_i + d_i\, r_{i+1}$, where $d_i$ says how $a_{i+1}$ depends on $a_i$; it is
solved by an associative scan, and never divides by a number that may be zero.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxopt_tut.autodiff import loops
from jaxopt_tut.autodiff.program import flatten
from jaxopt_tut.autodiff.registry import Derivatives, Integer, Needed, Rule, Values, define
from jaxopt_tut.autodiff.rules.shape import push_linear


@define("cumsum")
def _cumsum_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    axis: Integer,
    reverse: bool,
) -> Derivatives:
    return [lax.cumsum(cotangents[0], axis, not reverse)]


push_linear("cumsum")


def _shifted(x: Any, axis: Integer, reverse: bool, fill: float) -> Any:
    """Move each number one place towards the start of the running operation."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (1, -1, 0) if reverse else (-1, 1, 0)
    return lax.pad(x, lax.full((), fill, x.dtype), config)


def _recur(decay: Any, g: Any, axis: Integer, reverse: bool) -> Any:
    """Solve r_i = g_i + decay_i r_{i+1}, against the direction of the running operation."""

    def combine(later, earlier):
        d1, r1 = later
        d2, r2 = earlier
        return lax.mul(d1, d2), lax.add(r2, lax.mul(d2, r1))

    return lax.associative_scan(combine, (decay, g), reverse=not reverse, axis=axis)[1]


@define("cumprod")
def _cumprod_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    axis: Integer,
    reverse: bool,
) -> Derivatives:
    (g,), (x,), (ans,) = cotangents, inputs, outputs
    if x.size == 0:
        return [g]
    remaining = _recur(_shifted(x, axis, reverse, 0.0), g, axis, reverse)
    before = _shifted(ans, axis, not reverse, 1.0)
    return [lax.mul(before, remaining)]


@define("cumlogsumexp")
def _cumlogsumexp_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    axis: Integer,
    reverse: bool,
) -> Derivatives:
    r"""Use $\bar x_i = e^{x_i - a_i} r_i$ with $d_i = e^{a_i - a_{i+1}} \le 1$: no overflow."""
    (g,), (x,), (ans,) = cotangents, inputs, outputs
    if x.size == 0:
        return [g]
    following = _shifted(ans, axis, reverse, np.inf)
    decay = lax.exp(_difference(ans, following))
    return [lax.mul(lax.exp(_difference(x, ans)), _recur(decay, g, axis, reverse))]


def _difference(x: Any, y: Any) -> Any:
    """Subtract so that two infinities of one sign differ by zero."""
    return lax.select(lax.eq(x, y), lax.full_like(x, 0), lax.sub(x, y))


def _running_extremum(pairwise: Any) -> Rule:
    r"""Back-propagate through the tree of pairs that an associative scan makes.

    Between equal numbers $\max(a, b)$ halves its adjoint, so at ties the derivative depends on
    the order of the comparisons; this order is the one JAX differentiates.
    """

    def rule(
        cotangents: Derivatives,
        inputs: Values,
        outputs: Values,
        needed: Needed,
        *,
        axis: Integer,
        reverse: bool,
    ) -> Derivatives:
        (g,), (x,) = cotangents, inputs
        if x.size == 0:
            return [g]
        tree = functools.partial(lax.associative_scan, pairwise, reverse=reverse, axis=axis)
        program = flatten(jax.make_jaxpr(tree)(jax.ShapeDtypeStruct(x.shape, x.dtype)))
        env = loops.evaluate(program, [x])
        return [loops.backpropagate(program, env, {}, [g], program.floating)[program.inputs[0]]]

    return rule


define("cummax")(_running_extremum(lax.max))
define("cummin")(_running_extremum(lax.min))
