r"""Products of matrices, and convolutions, of rounded operands.

$$\tilde z = \sum_k r(x_k)\, r(y_k), \qquad
  \tilde{\bar x} = \sum r(\bar z)\, r(y), \qquad \tilde{\bar y} = \sum r(\bar z)\, r(x)$$

with $r$ the rounding to half precision, sums in single precision, and results of the dtype that
the product had before. The rule of a rounded product is JAX's own of the product, rewritten with
rounded products, so that every further derivative and `vmap` keep the promise.
"""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import registry
from jaxopt_tut.autodiff.primitives import define_primitive, type_of
from jaxopt_tut.autodiff.twins import pulled_back

_SINGLE = np.dtype(np.float32)

_REWRITTEN: dict[np.dtype, weakref.WeakKeyDictionary] = {}


def with_rounded_products(jaxpr: Any, dtype: np.dtype) -> Any:
    """Exchange the products of a jaxpr for those of rounded operands, inside calls too.

    JAX keeps what it has compiled by the identity of a jaxpr, hence the memory.
    """
    known = _REWRITTEN.setdefault(dtype, weakref.WeakKeyDictionary())
    if jaxpr in known:
        found = known[jaxpr]
        return jaxpr if found is None else found
    one = jaxprs.open_jaxpr(jaxpr)
    eqns = [_rounded_equation(eqn, dtype) for eqn in one.eqns]
    if all(new is old for new, old in zip(eqns, one.eqns, strict=True)):
        known[jaxpr] = None
        return jaxpr
    found = one.replace(eqns=eqns)
    if one is not jaxpr:
        found = jaxpr.replace(jaxpr=found)
    known[jaxpr] = found
    return found


def _rounded_equation(eqn: core.JaxprEqn, dtype: np.dtype) -> core.JaxprEqn:
    if eqn.primitive not in (lax.dot_general_p, lax.conv_general_dilated_p):
        return jaxprs.with_bodies(eqn, lambda jaxpr: with_rounded_products(jaxpr, dtype))
    types: list[Any] = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
    if not all(jnp.issubdtype(kind.dtype, jnp.floating) for kind in types):
        return eqn
    first, second, result = (kind.dtype for kind in types)
    extra = {"rounded": dtype, "result": result, "given": (first, second)}
    return eqn.replace(primitive=_rounded(eqn.primitive), params={**eqn.params, **extra})


@functools.cache
def _rounded(primitive: core.Primitive) -> core.Primitive:
    """Return the product of operands that are rounded first."""
    found = define_primitive(
        f"{jaxprs.ROUNDED}{primitive.name}",
        functools.partial(_type_rule, primitive),
        functools.partial(_compute, primitive),
        jvp=functools.partial(_jvp, primitive),
        transpose=functools.partial(_transpose, primitive),
        batch=functools.partial(_batch, primitive),
    )
    registry.RULES[found] = functools.partial(pulled_back, found)
    return found


def _type_rule(
    primitive: core.Primitive,
    x: Any,
    y: Any,
    *,
    rounded: np.dtype,
    result: np.dtype,
    given: tuple[np.dtype, np.dtype],
    **options: Any,
) -> Any:
    del rounded, given
    x, y = (kind.update(dtype=_SINGLE, weak_type=False) for kind in (x, y))
    return type_of(primitive, x, y, **_in_single(options)).update(dtype=result)


def _compute(
    primitive: core.Primitive,
    x: Any,
    y: Any,
    *,
    rounded: np.dtype,
    result: np.dtype,
    given: tuple[np.dtype, np.dtype],
    **options: Any,
) -> Any:
    del given
    x, y = (lax.convert_element_type(value, rounded) for value in (x, y))
    # the precision asked for is one of products in single precision, and these are exact
    out = primitive.bind(x, y, **{**_in_single(options), "precision": None})
    return lax.convert_element_type(out, result)


def _in_single(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "preferred_element_type": _SINGLE}


def _jvp(
    primitive: core.Primitive, primals: Sequence[Any], tangents: Sequence[Any], /, **params: Any
) -> tuple[Any, Any]:
    def product(x: Any, y: Any) -> Any:
        return _rounded(primitive).bind(x, y, **{**params, "given": (x.dtype, y.dtype)})

    # rounded now: it is these that reverse mode keeps, in half the memory
    x, y = (lax.convert_element_type(value, params["rounded"]) for value in primals)
    terms = []
    if tangents[0] is not None:
        terms.append(product(tangents[0], y))
    if tangents[1] is not None:
        terms.append(product(x, tangents[1]))
    return product(*primals), terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _transpose(
    primitive: core.Primitive,
    g: Any,
    operands: Sequence[Any],
    shapes: Sequence[tuple[int, ...]],
    /,
    *,
    rounded: np.dtype,
    result: np.dtype,
    given: tuple[np.dtype, np.dtype],
    **options: Any,
) -> list[Any]:
    """Send a cotangent back as JAX does, by products of rounded operands."""
    del result
    place = 0 if operands[0] is None else 1
    linear, other = jax.ShapeDtypeStruct(shapes[place], _SINGLE), operands[1 - place]

    def pull(g: Any, other: Any) -> Any:
        def along(x: Any) -> Any:
            pair = (x, other) if place == 0 else (other, x)
            return primitive.bind(*pair, **_in_single(options))

        return jax.linear_transpose(along, linear)(g)[0]

    cotangent = _run_rounded(pull, (g, other), rounded)
    back = lax.convert_element_type(cotangent, given[place])
    return [back, None] if place == 0 else [None, back]


def _batch(
    primitive: core.Primitive,
    operands: Sequence[Any],
    axes: Sequence[int | None],
    /,
    *,
    rounded: np.dtype,
    result: np.dtype,
    given: tuple[np.dtype, np.dtype],
    **options: Any,
) -> tuple[Any, int]:
    del given
    product = lambda x, y: primitive.bind(x, y, **_in_single(options))
    out = _run_rounded(jax.vmap(product, tuple(axes)), operands, rounded)
    return lax.convert_element_type(out, result), 0


def _run_rounded(fun: Callable, operands: Sequence[Any], dtype: np.dtype) -> Any:
    """Run a function of single precision with its products rounded."""
    singles = [lax.convert_element_type(value, _SINGLE) for value in operands]
    program = jax.make_jaxpr(fun)(*singles)
    return jaxprs.function_of(with_rounded_products(program, dtype))(*singles)[0]
