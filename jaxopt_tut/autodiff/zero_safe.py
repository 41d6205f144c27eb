r"""Functions whose derivatives take zero times infinity as zero.

The program of a function is rewritten equation by equation: an operation with a slope that may
be infinite or not a number, or that may meet such a cotangent, becomes its twin, the same operation
with another derivative (`jaxopt_tut.autodiff.twins`).
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff.twins import guarded
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.trees import Rebuild, split_arrays


def zero_safe(fun: Callable) -> Callable:
    r"""Make a function whose derivatives take zero times infinity or NaN as zero.

    $$\bar u = \bar v \otimes \frac{\partial f}{\partial u}, \qquad
      0 \otimes x = x \otimes 0 = 0 \text{ for every } x$$

    For a place that is guarded in the value but not in the derivative: `where(x > 0, sqrt(x), 0)`
    at 0, a norm at 0, `p * log(p)` where it is masked out, an optimizer that takes the root of a
    zero. The values are those of `fun`, to the bit; derivatives of any order, by JAX's
    transformations as well as by this library's, are finite wherever a zero stood beside what was
    not, and equal to JAX's elsewhere. Nothing in `fun` needs an edit. Loops, branches, `jit`,
    `vmap`, `jax.checkpoint` and `jax.shard_map` are gone into; `custom_jvp`, `custom_vjp` and
    linear solves keep the rules they have. Matrix products stay as they are, but for products of
    two vectors; so do decompositions of matrices.

    The price: where zero times infinity has a limit, the limit is lost. $\sqrt{x}^2$ at 0 has the
    derivative 1, and $2 \sqrt{x} \otimes \tfrac{1}{2 \sqrt{x}} = 0$; JAX says NaN. An infinity
    that meets a cotangent other than zero remains infinite.

    It costs a comparison and a selection beside each product of the backward pass, which XLA fuses
    with it. `fun` is traced at each call, so that Python branches on values of differentiated
    arguments fail in it, as under `jax.jit`; arguments that are not differentiated, mapped or
    traced remain what they are.

    Args:
      fun: A function of pytrees; leaves that are no arrays may be anything.

    Returns:
      A function of the same arguments.

    Raises:
      TypeError: If `fun` cannot be called.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> root = lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0)
      >>> x = jnp.array([-1.0, 0.0, 4.0])
      >>> slopes = lambda f: jax.grad(lambda x: f(x).sum())(x)
      >>> print(slopes(root), slopes(zero_safe(root)))
      [ nan  nan 0.25] [0.   0.   0.25]
      >>> print(jax.grad(zero_safe(jnp.sqrt))(0.0))  # nothing here is zero
      inf
      >>> square = lambda x: jnp.sqrt(x) ** 2
      >>> print(jax.grad(zero_safe(square))(0.0), jax.grad(zero_safe(square))(1e-9))
      0.0 1.0
    """
    if not callable(fun):
        raise TypeError(f"zero_safe needs a function, got {fun!r}.")

    @functools.wraps(fun)
    def safe(*args: Any, **kwargs: Any) -> Any:
        traced, with_traced = split_arrays((args, kwargs), is_traced)
        result: list[Rebuild] = []

        def of_tracers(*tracers: Any) -> list[Any]:
            args, kwargs = with_traced(tracers)
            found, rebuild = split_arrays(fun(*args, **kwargs), lambda x: isinstance(x, jax.Array))
            result[:] = [rebuild]
            return found

        closed = jax.make_jaxpr(of_tracers)(*traced)
        arrays = jaxprs.function_of(rewritten(closed))(*traced)
        return result[0](arrays)

    return safe


_REWRITTEN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def rewritten(jaxpr: Any) -> Any:
    """Exchange the guarded operations of a jaxpr for their twins, inside calls too.

    JAX keeps what it has compiled by the identity of a jaxpr, and hands out the same one for a
    function that it has traced before; hence the memory, which lasts as long as the jaxpr.
    """
    if jaxpr in _REWRITTEN:
        found = _REWRITTEN[jaxpr]
        return jaxpr if found is None else found
    one = jaxprs.open_jaxpr(jaxpr)
    eqns = [safe_equation(eqn) for eqn in one.eqns]
    if all(new is old for new, old in zip(eqns, one.eqns, strict=True)):
        _REWRITTEN[jaxpr] = None
        return jaxpr
    found = one.replace(eqns=eqns)
    if one is not jaxpr:
        found = jaxpr.replace(jaxpr=found)
    _REWRITTEN[jaxpr] = found
    return found


def safe_equation(eqn: core.JaxprEqn) -> core.JaxprEqn:
    """Exchange an equation for its twin, or guard what stands inside of it."""
    changed = guarded(eqn)
    return jaxprs.with_bodies(eqn, rewritten) if changed is eqn else changed
