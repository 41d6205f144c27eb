r"""Modified Bessel functions $I_0$ and $I_1$, and their scaled forms $e^{-|x|} I_k(x)$.

$$I_0' = I_1, \qquad I_1' = I_0 - I_1 / x$$

JAX has primitives for the scaled forms alone and makes $I_k = e^{|x|} \cdot e^{-|x|} I_k$ of
them: an analytic function as the product of two with a kink at 0, whose slopes there do not fit
together. The engine takes such a product for the function that it is. $I_1 / x$ is a series near
0, so that every derivative has its limit there.
"""

from typing import Any

import jax
import numpy as np
from jax import lax

from jaxopt_tut import jaxprs

TERMS = 12  # of the series on |x| < 1: the first one left out is 1e-26 of the sum


def _slope_at_zero(x: Any) -> Any:
    r"""$I_1(x)/x = \frac12 \sum_k (x^2/4)^k / (k!\,(k+1)!)$, to be used on $|x| < 1$."""
    quarter = lax.mul(lax.square(x), np.asarray(0.25, x.dtype))
    total = lax.full_like(x, 1)
    for k in range(TERMS, 0, -1):
        factor = np.asarray(1 / (k * (k + 1)), x.dtype)
        total = lax.add(np.asarray(1, x.dtype), lax.mul(lax.mul(total, quarter), factor))
    return lax.mul(total, np.asarray(0.5, x.dtype))


def _over_x(numerator: Any, x: Any, near_zero: Any) -> Any:
    """Divide by x, but use another formula near 0; no derivative of the unused one is made."""
    one = lax.full_like(x, 1)
    inside = lax.lt(lax.abs(x), one)
    return lax.select(inside, near_zero, lax.div(numerator, lax.select(inside, one, x)))


def _inside(x: Any) -> Any:
    """Put 0 in the place of arguments at which the series is not used."""
    return lax.select(lax.lt(lax.abs(x), lax.full_like(x, 1)), x, lax.full_like(x, 0))


def slope_of_i0e(x: Any, value: Any) -> Any:
    """Differentiate e^-|x| I0(x); the kink at 0 counts as flat."""
    return lax.sub(lax.bessel_i1e(x), lax.mul(lax.sign(x), value))


def slope_of_i1e(x: Any, value: Any) -> Any:
    """Differentiate e^-|x| I1(x), which is 1/2 at 0."""
    small = _inside(x)
    decay = lax.exp(lax.neg(lax.mul(small, lax.sign(small))))  # no |x|: it is even, so flat at 0
    ratio = _over_x(value, x, lax.mul(decay, _slope_at_zero(small)))
    return lax.sub(lax.bessel_i0e(x), lax.add(lax.mul(lax.sign(x), value), ratio))


@jax.custom_jvp
def i0(x: Any) -> Any:
    """Compute I0(x) as JAX does, with the derivatives of the analytic function."""
    return lax.mul(lax.exp(lax.abs(x)), lax.bessel_i0e(x))


@i0.defjvp
def _i0_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (t,) = primals, tangents
    return i0(x), lax.mul(t, i1(x))


@jax.custom_jvp
def i1(x: Any) -> Any:
    """Compute I1(x) as JAX does, with the derivatives of the analytic function."""
    return lax.mul(lax.exp(lax.abs(x)), lax.bessel_i1e(x))


@i1.defjvp
def _i1_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (t,) = primals, tangents
    value = i1(x)
    ratio = _over_x(value, x, _slope_at_zero(_inside(x)))
    return value, lax.mul(t, lax.sub(i0(x), ratio))


_JAXS = {
    **{"_i0": "bessel_i0e", "i0_impl": "bessel_i0e"},
    **{"_i1": "bessel_i1e", "i1_impl": "bessel_i1e"},
}
"""JAX's own functions with a rule, by name; up to 0.10 `jnp.i0` alone, of first order."""

ANALYTIC = {"bessel_i0e": i0, "bessel_i1e": i1}


def analytic_product(step: Any, makers: dict[int, Any]) -> tuple[Any, int] | None:
    r"""Recognise $e^{|x|} \cdot e^{-|x|} I_k(x)$, and `jnp.i0`, whose rule stops at order one.

    Return the equation of a call of `i0` or `i1` and the number of x; `makers` knows the step that
    made a value.
    """
    name, x = None, -1
    if step.kind == "custom_jvp" and (scaled := _JAXS.get(jaxprs.call_name(step.eqn))):
        body = jaxprs.open_jaxpr(jaxprs.called_jaxpr(step.eqn))
        if any(eqn.primitive.name == scaled for eqn in body.eqns):
            name, x = scaled, step.operands[0]
    elif step.op == "mul":
        factors = [makers.get(index) for index in step.operands]
        by_op = {factor.op: factor for factor in factors if factor is not None}
        grown, scaled = by_op.get("exp"), by_op.get("bessel_i0e", by_op.get("bessel_i1e"))
        size = makers.get(grown.operands[0]) if grown and scaled else None
        if scaled and size and size.op == "abs" and size.operands == scaled.operands:
            name, x = scaled.op, size.operands[0]
    if name is None:
        return None
    aval = step.eqn.outvars[0].aval
    call = jax.make_jaxpr(ANALYTIC[name])(jax.ShapeDtypeStruct(aval.shape, aval.dtype)).eqns[0]
    return call.replace(source_info=step.eqn.source_info, ctx=step.eqn.ctx), x
