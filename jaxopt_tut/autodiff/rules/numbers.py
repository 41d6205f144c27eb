# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Casts, and complex numbers by their real and imaginary parts.

JAX pairs cotangents with tangents without conjugation, $\langle \bar v, \dot v \rangle =
\mathrm{Re} \sum \bar v \dot v$; the transpose of $z \mapsto \mathrm{Im}\, z$ is
$g \mapsto -i g$.
"""

from typing import Any

from jax import Array, lax
from jax import numpy as jnp

from jaxopt_tut.autodiff.registry import (
    Derivatives,
    Integer,
    Needed,
    Value,
    Values,
    define,
    define_push,
)


def is_complex(x: Value) -> bool:
    """Tell whether an array has a complex dtype."""
    return jnp.issubdtype(x.dtype, jnp.complexfloating)


@define("convert_element_type")
def _cast_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    (g,), (x,) = cotangents, inputs
    if is_complex(g) and not is_complex(x):
        g = lax.real(g)
    return [lax.convert_element_type(g, x.dtype)]


@define_push("convert_element_type")
def _cast_push(
    tangents: Derivatives, inputs: Values, outputs: Values, **params: Any
) -> Derivatives:
    (t,), (ans,) = tangents, outputs
    if is_complex(t) and not is_complex(ans):
        t = lax.real(t)
    return [lax.convert_element_type(t, ans.dtype)]


@define("reduce_precision")
def _precision_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    exponent_bits: Integer,
    mantissa_bits: Integer,
) -> Derivatives:
    return [lax.reduce_precision(cotangents[0], exponent_bits, mantissa_bits)]


@define("real")
def _real_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    (g,) = cotangents
    return [lax.complex(g, lax.full_like(g, 0))]


@define("imag")
def _imag_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    (g,) = cotangents
    return [lax.complex(lax.full_like(g, 0), lax.neg(g))]


@define("complex")
def _complex_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    (g,) = cotangents
    return [
        lax.real(g) if needed[0] else None,
        lax.neg(lax.imag(g)) if needed[1] else None,
    ]


@define("conj")
def _conj_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    (g,), (x,) = cotangents, inputs
    return [lax.conj(g) if is_complex(x) else lax.real(g)]


@define("abs")
def _abs_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    (g,), (x,), (ans,) = cotangents, inputs, outputs
    if not is_complex(x):
        return [_signed(g, x)]
    return [lax.mul(lax.complex(g, lax.full_like(g, 0)), _direction(x, ans))]


@define_push("abs")
def _abs_push(tangents: Derivatives, inputs: Values, outputs: Values) -> Derivatives:
    (t,), (x,), (ans,) = tangents, inputs, outputs
    return [lax.real(lax.mul(t, _direction(x, ans))) if is_complex(x) else _signed(t, x)]


def _signed(t: Array, x: Value) -> Array:
    """Keep or turn the sign; at a zero of either sign keep it: the derivative from the right."""
    return lax.select(lax.ge(x, lax.full_like(x, 0)), t, lax.neg(t))


def _direction(x: Value, size: Value) -> Array:
    """Conjugate over absolute value; 0 at 0."""
    length = lax.convert_element_type(size, x.dtype)
    zero = lax.full_like(length, 0)
    safe = lax.select(lax.eq(length, zero), lax.full_like(length, 1), length)
    return lax.div(lax.conj(x), safe)
