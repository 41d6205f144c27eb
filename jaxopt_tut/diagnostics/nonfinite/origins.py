"""Which entries of what one operation makes are not finite through it alone."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Inexact, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut import jaxprs
from jaxopt_tut.taps.inner import ELEMENTWISE, REARRANGING
from jaxopt_tut.types import Shape

AnyJaxpr = TypeAliasType("AnyJaxpr", core.ClosedJaxpr | core.Jaxpr)
"""A program, with its constants or without."""

Path = tuple[int, ...]
"""Where an equation lies, as in the places of `taps`."""

_ENTRYWISE = ELEMENTWISE | {
    "complex", "conj", "igamma", "igammac", "igamma_grad_a", "polygamma", "zeta", "bessel_i0e",
    "bessel_i1e", "regularized_incomplete_beta", "random_gamma_grad", "reduce_and",
}  # fmt: skip
_SUMS = {
    "dot_general", "conv_general_dilated", "reduce_sum", "cumsum", "reduce_prod", "cumprod",
    "reduce_window_sum", "cumlogsumexp", "scatter-add", "scatter_add", "scatter_mul", "fft",
}  # fmt: skip
_CHOICES = {
    "reduce_max", "reduce_min", "cummax", "cummin", "reduce_window_max", "reduce_window_min",
    "gather", "scatter", "dynamic_slice", "dynamic_update_slice", "pad", "concatenate", "sort",
    "top_k", "copy",
}  # fmt: skip


class Origins(NamedTuple):
    """What an operation adds to what it reads; None where it cannot.

    Attributes:
      born: Entries that are not finite though all that they are made of is, or is a constant.
      clash: Those that are NaN though nothing that they are made of is.
      is_gift: Whether a constant that is not finite came in there, and no NaN was born.
    """

    born: Bool[Array, "..."] | None
    clash: Bool[Array, "..."] | None
    is_gift: Bool[Array, ""] | None


def origins(
    eqn: core.JaxprEqn, operands: Sequence[Any], constant: Sequence[bool], output: Array, index: int
) -> Origins:
    """Tell what an equation adds to the operands, some of which are `constant`, in one output."""
    name = eqn.primitive.name
    if name in REARRANGING:
        return Origins(None, None, None)
    is_data = [is_floating(x) and not fixed for x, fixed in zip(operands, constant, strict=True)]
    data = [x for x, found in zip(operands, is_data, strict=True) if found]
    bad, is_nan = ~jnp.isfinite(output), jnp.isnan(output)
    shape = jnp.shape(output)
    clash = None
    if name == "select_n":
        # Only the case that is selected is looked at.
        which, *cases = operands
        pairs = zip(cases, is_data[1:], strict=True)
        flags = [_wrong(case) if found else jnp.zeros(shape, bool) for case, found in pairs]
        born = bad & ~lax.select_n(which, *flags)
    elif name in _ENTRYWISE:  # entry by entry: what is wrong where no operand was is new
        carried = _any_of([jnp.broadcast_to(_wrong(x), shape) for x in data], shape)
        unclear = _any_of([jnp.broadcast_to(jnp.isnan(x), shape) for x in data], shape)
        born, clash = bad & ~carried, is_nan & carried & ~unclear
    elif name in _SUMS | _CHOICES and not eqn.effects:
        # Entries are mixed: evaluated once more, with finite operands, only what is born is wrong.
        born = bad & ~jnp.isfinite(_again(eqn, operands, is_data, _wrong)[index])
        if name in _SUMS:
            clash = is_nan & ~born & jnp.isnan(_again(eqn, operands, is_data, jnp.isnan)[index])
    else:  # a factorisation, say: all is carried if any operand is wrong
        carried = _any_of([jnp.any(_wrong(x)) for x in data], ())
        unclear = _any_of([jnp.any(jnp.isnan(x)) for x in data], ())
        born, clash = bad & ~carried, is_nan & carried & ~unclear
    given = [x for x, fixed in zip(operands, constant, strict=True) if fixed and is_floating(x)]
    is_gift = _any_of([jnp.any(_wrong(x)) for x in given], ()) & ~jnp.any(born & is_nan)
    return Origins(born, clash, is_gift if given else None)


def _wrong(value: ArrayLike) -> Bool[Array, "..."]:
    return ~jnp.isfinite(value)


def _any_of(flags: Sequence[Bool[Array, "..."]], shape: Shape) -> Bool[Array, "..."]:
    return reduce(jnp.logical_or, flags, jnp.zeros(shape, bool))


def _again(
    eqn: core.JaxprEqn,
    operands: Sequence[Any],
    is_data: Sequence[bool],
    which: Callable[[Array], Bool[Array, "..."]],
) -> list[Any]:
    """Apply an equation to its operands, some of their entries made finite."""
    pairs = zip(operands, is_data, strict=True)
    clean = [jnp.where(which(x), finite_stand_in(x), x) if found else x for x, found in pairs]
    return jaxprs.bind_here(eqn, clean)


def is_floating(value: Any) -> bool:
    """Tell whether a value, or what stands for one in a jaxpr, can be other than finite."""
    dtype = getattr(value, "dtype", None)
    return jnp.issubdtype(jnp.result_type(value) if dtype is None else dtype, jnp.inexact)


def finite_stand_in(value: ArrayLike) -> Inexact[Array, "..."]:
    """Give finite values, of the same shape, to put in the place of others."""
    # They lie between 0.4 and 0.6, where most functions are defined, and differ, so that none is
    # the mean of its neighbours.
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if not shape:
        return jnp.full((), 0.5, dtype)
    iotas = [lax.broadcasted_iota(jnp.float32, shape, axis) for axis in range(len(shape))]
    steps = reduce(jnp.add, iotas)
    return (0.4 + 0.2 * (steps * 0.61803399 % 1)).astype(dtype)


def settled(value: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Round what is shorter than float32: compilers keep more digits, and a larger range."""
    if not is_floating(value) or not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    info = jnp.finfo(value.dtype)
    if info.bits >= 32:
        return value
    rounded = lax.reduce_precision(value.astype(jnp.float32), info.nexp, info.nmant)
    return rounded.astype(value.dtype)
