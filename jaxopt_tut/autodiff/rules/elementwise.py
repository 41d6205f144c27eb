# ruff: noqa: ARG001, ARG005 (all rules have one signature, whatever they read of it)
r"""Functions that act number by number: $v = f(u)$ gives $\bar u = \bar v\, f'(u)$.

The Jacobian is diagonal, hence its own transpose: one slope serves both modes.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import Array, lax

from jaxopt_tut.autodiff import bessel
from jaxopt_tut.autodiff.registry import (
    Derivatives,
    Needed,
    Value,
    Values,
    define,
    define_constant,
    define_push,
)
from jaxopt_tut.autodiff.zeros import filled

Slope = Callable[..., Any]
"""`slope(g, ans, *inputs, **params)`: the product of `g` with one partial derivative."""


def define_elementwise(name: str, *slopes: Slope) -> None:
    """Register an elementwise primitive by one slope an input."""

    @define(name)
    def rule(
        cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
    ) -> Derivatives:
        (g,), (ans,) = cotangents, outputs
        return [
            unbroadcast(slope(g, ans, *inputs, **params), x) if wanted else None
            for slope, x, wanted in zip(slopes, inputs, needed, strict=True)
        ]

    @define_push(name)
    def push(tangents: Derivatives, inputs: Values, outputs: Values, **params: Any) -> Derivatives:
        (ans,) = outputs
        total = None
        for slope, tangent in zip(slopes, tangents, strict=True):
            if tangent is None:
                continue
            term = slope(_spread(tangent, ans), ans, *inputs, **params)
            total = term if total is None else lax.add(total, term)
        return [total]


def unbroadcast(cotangent: Any, operand: Any) -> Any:
    """Sum a cotangent over the axes along which its operand was repeated."""
    shape = np.shape(operand)
    if cotangent.shape == shape:
        return cotangent
    if not shape:
        return lax.reduce_sum(cotangent, tuple(range(cotangent.ndim)))
    pairs = enumerate(zip(shape, cotangent.shape, strict=True))
    repeated = tuple(axis for axis, (old, new) in pairs if old != new)
    return lax.reshape(lax.reduce_sum(cotangent, repeated), shape)


def _spread(x: Any, ans: Any) -> Any:
    """Repeat an operand to the shape of the result."""
    shape = np.shape(x)
    return x if shape == ans.shape else lax.broadcast_in_dim(x, ans.shape, tuple(range(len(shape))))


def _one_minus_square(x: Any) -> Any:
    return lax.sub(_one(x), lax.square(x))


def _number(value: float | int, x: Value) -> np.ndarray:
    return np.asarray(value, x.dtype)


def _one(x: Any) -> Any:
    return _number(1, x)


def _times(x: Value, factor: float | int) -> Array:
    return lax.mul(x, _number(factor, x))


def _negative_root(square: Any) -> Any:
    return lax.neg(lax.rsqrt(square))


mul, div, neg, square = lax.mul, lax.div, lax.neg, lax.square
HIGHEST = lax.AccuracyMode.HIGHEST


def _tanh(g: Array, ans: Value, x: Value, *, accuracy: Any) -> Array:
    if accuracy is HIGHEST:  # 1 - tanh^2 as a product that does not cancel
        left, right = (lax.logistic(_times(x, factor), accuracy=accuracy) for factor in (2, -2))
        return mul(g, _times(mul(left, right), 4))
    return mul(lax.add(g, mul(g, ans)), lax.sub(_one(x), ans))


def _logistic(g: Array, ans: Value, x: Value, *, accuracy: Any) -> Array:
    other = lax.logistic(neg(x)) if accuracy is HIGHEST else lax.sub(_one(x), ans)
    return mul(g, mul(ans, other))


def _expm1(g: Array, ans: Value, x: Value, *, accuracy: Any) -> Array:
    return mul(g, lax.exp(x, accuracy=accuracy) if accuracy is HIGHEST else lax.add(ans, _one(x)))


def _acosh(g: Array, ans: Value, x: Value) -> Array:
    """For complex numbers a product of two roots: that of the product lies on another branch."""
    if np.issubdtype(x.dtype, np.complexfloating):
        return mul(g, mul(lax.rsqrt(lax.sub(x, _one(x))), lax.rsqrt(lax.add(x, _one(x)))))
    return mul(g, lax.rsqrt(lax.sub(square(x), _one(x))))


def _gaussian(factor: float | int) -> Slope:
    return lambda g, ans, x, **_: mul(_number(factor, x), mul(g, lax.exp(neg(square(x)))))


define_elementwise("neg", lambda g, ans, x: neg(g))
define_elementwise("sin", lambda g, ans, x, accuracy: mul(g, lax.cos(x, accuracy=accuracy)))
define_elementwise("cos", lambda g, ans, x, accuracy: neg(mul(g, lax.sin(x, accuracy=accuracy))))
define_elementwise("tan", lambda g, ans, x, **_: mul(g, lax.add(_one(x), square(ans))))
define_elementwise("asin", lambda g, ans, x: mul(g, lax.rsqrt(_one_minus_square(x))))
define_elementwise("acos", lambda g, ans, x: mul(g, _negative_root(_one_minus_square(x))))
define_elementwise("atan", lambda g, ans, x: div(g, lax.add(_one(x), square(x))))
define_elementwise("sinh", lambda g, ans, x: mul(g, lax.cosh(x)))
define_elementwise("cosh", lambda g, ans, x: mul(g, lax.sinh(x)))
define_elementwise("tanh", _tanh)
define_elementwise("asinh", lambda g, ans, x: mul(g, lax.rsqrt(lax.add(square(x), _one(x)))))
define_elementwise("acosh", _acosh)
define_elementwise(
    "atanh",
    lambda g, ans, x: mul(lax.reciprocal(lax.add(_one(x), x)), div(g, lax.sub(_one(x), x))),
)
define_elementwise("exp", lambda g, ans, x, **_: mul(g, ans))
define_elementwise("exp2", lambda g, ans, x, **_: mul(_number(math.log(2.0), x), mul(g, ans)))
define_elementwise("expm1", _expm1)
define_elementwise("log", lambda g, ans, x, **_: div(g, x))
define_elementwise("log2", lambda g, ans, x, **_: div(g, _times(x, math.log(2.0))))
define_elementwise("log1p", lambda g, ans, x, **_: div(g, lax.add(x, _one(x))))
define_elementwise("sqrt", lambda g, ans, x, **_: mul(g, div(_number(0.5, x), ans)))
define_elementwise("rsqrt", lambda g, ans, x, **_: mul(g, _times(div(ans, x), -0.5)))
define_elementwise("cbrt", lambda g, ans, x, **_: mul(g, _times(lax.integer_pow(ans, -2), 1 / 3)))
define_elementwise("logistic", _logistic)
define_elementwise("square", lambda g, ans, x: mul(g, _times(x, 2)))
define_elementwise("one_minus_square", lambda g, ans, x: mul(g, _times(x, -2)))
define_elementwise("copy", lambda g, ans, x: g)
define_elementwise("erf", _gaussian(2 / math.sqrt(math.pi)))
define_elementwise("erfc", _gaussian(-2 / math.sqrt(math.pi)))
define_elementwise(
    "erf_inv",
    lambda g, ans, x: mul(_number(math.sqrt(math.pi) / 2, x), mul(g, lax.exp(square(ans)))),
)
define_elementwise("lgamma", lambda g, ans, x, **_: mul(g, lax.digamma(x)))
define_elementwise("digamma", lambda g, ans, x: mul(g, lax.polygamma(lax.full_like(x, 1), x)))
define_elementwise("bessel_i0e", lambda g, ans, x: mul(g, bessel.slope_of_i0e(x, ans)))
define_elementwise("bessel_i1e", lambda g, ans, x: mul(g, bessel.slope_of_i1e(x, ans)))


def _integer_power(g: Array, ans: Value, x: Value, *, y: int) -> Array:
    if y == 0:
        return lax.full_like(g, 0)
    return g if y == 1 else mul(g, _times(x if y == 2 else lax.integer_pow(x, y - 1), y))


define_elementwise("integer_pow", _integer_power)


def _left_of_product(g: Array, ans: Value, x: Value, y: Value, **params: Any) -> Array:
    return _product(g, y, x, **params)


def _right_of_product(g: Array, ans: Value, x: Value, y: Value, **params: Any) -> Array:
    return _product(g, x, y, **params)


def _product(g: Array, other: Value, like: Value, out_dtype: Any = None) -> Array:
    if out_dtype is None:
        return mul(g, other)
    return lax.convert_element_type(mul(g, lax.convert_element_type(other, g.dtype)), like.dtype)


define_elementwise("add", lambda g, ans, x, y: g, lambda g, ans, x, y: g)
define_elementwise("add_jaxvals", lambda g, ans, x, y: g, lambda g, ans, x, y: g)
define_elementwise("sub", lambda g, ans, x, y: g, lambda g, ans, x, y: neg(g))
define_elementwise("mul", _left_of_product, _right_of_product)
# A product of quotients: y^2 leaves the range of the dtype long before x / y^2 does, and XLA makes
# one of it where the quotient is divided once more.
define_elementwise(
    "div", lambda g, ans, x, y: div(g, y), lambda g, ans, x, y: neg(mul(div(g, y), ans))
)
# From the remainder: x / y may round up to a whole number that y does not reach.
define_elementwise(
    "rem",
    lambda g, ans, x, y: g,
    lambda g, ans, x, y: neg(mul(g, lax.round(div(lax.sub(_spread(x, ans), ans), y)))),
)
define_elementwise(
    "atan2",
    lambda g, ans, x, y: mul(g, div(y, lax.add(square(x), square(y)))),
    lambda g, ans, x, y: mul(g, div(neg(x), lax.add(square(x), square(y)))),
)


def _base_of_power(g: Array, ans: Value, x: Value, y: Value) -> Array:
    """Multiply by y x^(y - 1); a whole y = 0 makes a constant, a real one does so nowhere near."""
    base, exponent = _spread(x, ans), lax.convert_element_type(_spread(y, ans), ans.dtype)
    lower = lax.pow(base, lax.sub(_spread(y, ans), np.asarray(1, y.dtype)))
    slope = mul(exponent, lower)
    if not np.issubdtype(y.dtype, np.integer):
        return mul(g, slope)
    zero = lax.full_like(exponent, 0)
    return mul(g, lax.select(lax.eq(exponent, zero), zero, slope))


def _exponent_of_power(g: Array, ans: Value, x: Value, y: Value) -> Array:
    """Multiply by log(x) x^y, where 0^y counts as flat."""
    base = _spread(x, ans)
    zero = lax.full_like(base, 0)
    logarithm = lax.log(lax.select(lax.eq(base, zero), lax.full_like(base, 1), base))
    return mul(g, mul(logarithm, ans))


define_elementwise("pow", _base_of_power, _exponent_of_power)


def _winner(ans: Any, x: Any, y: Any) -> Any:
    """Return 1 where x is the extremum, 0 where it is not, 1/2 at a tie."""
    one, zero = lax.full_like(ans, 1), lax.full_like(ans, 0)
    x, y = _spread(x, ans), _spread(y, ans)
    shared = lax.select(lax.eq(y, ans), lax.full_like(ans, 0.5), one)
    return lax.select(lax.eq(x, ans), shared, zero)


for _name in ("max", "min"):
    define_elementwise(
        _name,
        lambda g, ans, x, y: mul(g, _winner(ans, x, y)),
        lambda g, ans, x, y: mul(g, _winner(ans, y, x)),
    )


def _masked(g: Any, mask: Any) -> Any:
    return lax.select(_spread(mask, g), g, lax.full_like(g, 0))


define_elementwise(
    "clamp",
    lambda g, ans, low, x, high: _masked(
        g, lax.bitwise_and(lax.gt(_spread(low, ans), x), _spread(lax.lt(low, high), ans))
    ),
    lambda g, ans, low, x, high: _masked(
        g, lax.bitwise_and(lax.gt(x, _spread(low, ans)), lax.lt(x, _spread(high, ans)))
    ),
    lambda g, ans, low, x, high: _masked(g, lax.lt(_spread(high, ans), x)),
)


@define("select_n")
def _select_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    (g,), which = cotangents, inputs[0]
    zero = lax.full_like(g, 0)
    found: list[Any] = [None]
    for k in range(1, len(inputs)):
        cases = [zero] * (len(inputs) - 1)
        cases[k - 1] = g
        found.append(lax.select_n(which, *cases) if needed[k] else None)
    return found


@define_push("select_n")
def _select_push(tangents: Derivatives, inputs: Values, outputs: Values) -> Derivatives:
    return [lax.select_n(inputs[0], *filled(tangents[1:], inputs[1:]))]


define_constant(
    *("floor", "ceil", "round", "sign", "nextafter", "stop_gradient", "is_finite", "not", "and"),
    *("or", "xor", "eq", "ne", "lt", "le", "gt", "ge", "eq_to", "le_to", "lt_to", "argmax"),
    *("argmin", "iota", "clz", "population_count", "shift_left", "shift_right_logical"),
    *("shift_right_arithmetic", "bitcast_convert_type", "reduce_and", "reduce_or", "reduce_xor"),
    *("random_bits", "random_seed", "random_fold_in", "random_split", "threefry2x32"),
    *("random_wrap", "random_unwrap", "rng_bit_generator", "rng_uniform"),
)
