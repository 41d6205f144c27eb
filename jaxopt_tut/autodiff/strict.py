r"""Products in which zero wins: $0 \otimes x = 0$ for every $x$, infinite and NaN included.

$$a \otimes b = \begin{cases} 0 & a = 0 \text{ or } b = 0 \\ a b & \text{otherwise} \end{cases}
\qquad t \oslash b = \begin{cases} 0 & t = 0 \\ t / b & \text{otherwise} \end{cases}$$

`zero_product` is linear in each factor and `zero_quotient` in its numerator, so they are
primitives: a `where` would hide the linearity from `jax.vjp`, and lose the derivative of a factor
that happens to be zero. Their own derivatives are made of them again, to any order:
$d(a \otimes b) = da \otimes b + a \otimes db$ and
$d(t \oslash b) = dt \oslash b - ((t \oslash b) \otimes db) \oslash b$.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxopt_tut import control_flow
from jaxopt_tut.autodiff.primitives import (
    batch_in_front,
    define_primitive,
    explicit_sharding,
    type_of,
)


def zero_product(a: Any, b: Any, *, op: str = "mul") -> Any:
    r"""Multiply; a zero times anything is zero, in the derivative of the operation `op`.

    Of a complex number both parts must be zero to count as zero.

    Example:
      >>> import jax.numpy as jnp
      >>> zero_product(jnp.array([0.0, 2.0, 1.0]), jnp.array([jnp.inf, jnp.inf, jnp.nan])).tolist()
      [0.0, inf, nan]
    """
    return zero_product_p.bind(*alike(a, b), op=op)


def zero_quotient(t: Any, b: Any, *, op: str = "div") -> Any:
    r"""Divide; zero over anything is zero, in the derivative of the operation `op`.

    Example:
      >>> import jax.numpy as jnp
      >>> zero_quotient(jnp.array([0.0, 0.0, 2.0]), jnp.array([0.0, jnp.nan, 0.0])).tolist()
      [0.0, 0.0, inf]
    """
    return zero_quotient_p.bind(*alike(t, b), op=op)


def alike(*values: Any) -> tuple[Any, ...]:
    """Repeat scalars to the common shape, and mark all as varying over the same mesh axes."""
    shape = np.broadcast_shapes(*map(np.shape, values))
    whole = [v for v in values if np.shape(v) == shape]
    sharding = explicit_sharding(whole[0]) if whole else None

    def spread(value: Any) -> Any:
        if np.shape(value) == shape:
            return value
        axes = tuple(range(len(shape) - np.ndim(value), len(shape)))
        return lax.broadcast_in_dim(value, shape, axes, out_sharding=sharding)

    return control_flow.agree(*map(spread, values))


@functools.partial(jax.jit, static_argnames="op")
def _multiply(a: Any, b: Any, *, op: str) -> Any:
    del op
    zero = lax.full_like(a, 0)
    is_zero = lax.bitwise_or(lax.eq(a, zero), lax.eq(b, zero))
    return lax.select(is_zero, zero, lax.mul(a, b))


@functools.partial(jax.jit, static_argnames="op")
def _divide(t: Any, b: Any, *, op: str) -> Any:
    del op
    zero = lax.full_like(t, 0)
    return lax.select(lax.eq(t, zero), zero, lax.div(t, b))


def _product_jvp(primals: Sequence, tangents: Sequence, *, op: str) -> tuple[Any, Any]:
    (a, b), (da, db) = primals, tangents
    terms = []
    if da is not None:
        terms.append(zero_product(da, b, op=op))
    if db is not None:
        terms.append(zero_product(a, db, op=op))
    return zero_product(a, b, op=op), functools.reduce(lax.add, terms)


def _quotient_jvp(primals: Sequence, tangents: Sequence, *, op: str) -> tuple[Any, Any]:
    (t, b), (dt, db) = primals, tangents
    quotient = zero_quotient(t, b, op=op)
    terms = []
    if dt is not None:
        terms.append(zero_quotient(dt, b, op=op))
    if db is not None:
        change = zero_quotient(zero_product(quotient, db, op=op), b, op=op)
        terms.append(lax.neg(change))
    return quotient, functools.reduce(lax.add, terms)


def _product_transpose(g: Any, operands: Sequence, _: Any, *, op: str) -> Sequence[Any]:
    a, b = operands
    if a is None:
        return [zero_product(g, b, op=op), None]
    return [None, zero_product(a, g, op=op)]


def _quotient_transpose(g: Any, operands: Sequence, _: Any, *, op: str) -> Sequence[Any]:
    return [zero_quotient(g, operands[1], op=op), None]


zero_product_p = define_primitive(
    "zero_product",
    lambda *types, op: type_of(lax.mul_p, *types),  # noqa: ARG005
    _multiply,
    jvp=_product_jvp,
    transpose=_product_transpose,
    batch=lambda values, axes, *, op: (zero_product(*batch_in_front(values, axes), op=op), 0),
)
"""The primitive $a \\otimes b$; its parameter `op` names the operation whose derivative it is."""

zero_quotient_p = define_primitive(
    "zero_quotient",
    lambda *types, op: type_of(lax.div_p, *types),  # noqa: ARG005
    _divide,
    jvp=_quotient_jvp,
    transpose=_quotient_transpose,
    batch=lambda values, axes, *, op: (zero_quotient(*batch_in_front(values, axes), op=op), 0),
)
"""The primitive $t \\oslash b$."""
