r"""Twins: operations with JAX's values and with derivatives in which zero times infinity is zero.

The rule of a twin is JAX's own, rewritten: what is linear in the tangent multiplies by
`strict.zero_product`, and what is not is made of twins again, so that every further derivative
keeps the promise.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from jaxopt_tut import control_flow, jaxprs
from jaxopt_tut.autodiff import registry, strict
from jaxopt_tut.autodiff.primitives import define_primitive, explicit_sharding, type_of
from jaxopt_tut.autodiff.registry import primitive_named

_NAMES = (
    *("mul", "div", "rem", "pow", "integer_pow", "square", "sqrt", "rsqrt", "cbrt"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("erf", "erfc", "erf_inv", "lgamma", "digamma", "polygamma", "igamma", "igammac"),
    *("bessel_i0e", "bessel_i1e", "regularized_incomplete_beta", "abs", "max", "min"),
    *("reduce_max", "reduce_min", "reduce_prod", "cumprod", "scatter_max", "scatter_min"),
    *("dot_general",),
)
GUARDED = frozenset(p for p in map(primitive_named, _NAMES) if p is not None)
"""The primitives that get a twin."""


def guarded(eqn: core.JaxprEqn) -> core.JaxprEqn:
    """Return an equation with the twin of its operation; itself where none is needed."""
    if eqn.primitive in GUARDED and _needs_guard(eqn):
        return eqn.replace(primitive=twin(eqn.primitive))
    return eqn


def _needs_guard(eqn: core.JaxprEqn) -> bool:
    """Tell whether a slope of the operation can be other than a finite number but zero."""
    name = eqn.primitive.name
    factors: list[Any] = eqn.invars if name != "div" else eqn.invars[1:]
    result: Any = eqn.outvars[0].aval
    if not jnp.issubdtype(result.dtype, jnp.inexact):
        return False
    if name == "abs":
        return jnp.issubdtype(factors[0].aval.dtype, jnp.complexfloating)
    if name in ("mul", "div"):
        return not any(jaxprs.is_literal(f) and _is_harmless(f.val) for f in factors)
    if name == "dot_general":
        return is_vector_product(eqn)
    return True


def _is_harmless(number: Any) -> bool:
    return bool(np.all(np.isfinite(np.asarray(number)) & (np.asarray(number) != 0)))


def is_vector_product(eqn: core.JaxprEqn) -> bool:
    """Tell whether a `dot_general` has batches and contracted axes only: its slopes are no sums."""
    contracted, batch = eqn.params["dimension_numbers"]
    operands: list[Any] = eqn.invars
    return all(
        len(operand.aval.shape) == len(c) + len(b)
        for operand, c, b in zip(operands, contracted, batch, strict=True)
    )


@functools.cache
def twin(primitive: core.Primitive) -> core.Primitive:
    """Return the operation with the same values and the guarded derivative."""
    found = define_primitive(
        f"zero_safe_{primitive.name}",
        functools.partial(type_of, primitive),
        primitive.bind,
        jvp=functools.partial(_twin_jvp, primitive),
        transpose=functools.partial(_twin_transpose, primitive),
        batch=functools.partial(_twin_batched, primitive),
    )
    registry.RULES[found] = functools.partial(pulled_back, found)
    return found


def is_twin(primitive: core.Primitive) -> bool:
    """Tell whether a primitive was made by `twin`."""
    return primitive.name.startswith("zero_safe_")


def pulled_back(
    found: core.Primitive,
    cotangents: registry.Derivatives,
    inputs: registry.Values,
    _: registry.Values,
    needed: registry.Needed,
    /,
    **params: Any,
) -> registry.Derivatives:
    """Send a cotangent back, for this library's engine, by JAX's reverse mode."""

    def along(*moving: Any) -> Any:
        rest = iter(moving)
        return found.bind(
            *(next(rest) if k else x for k, x in zip(needed, inputs, strict=True)), **params
        )

    moving = [x for x, wanted in zip(inputs, needed, strict=True) if wanted]
    pulled = iter(jax.vjp(along, *moving)[1](cotangents[0]))
    return [next(pulled) if wanted else None for wanted in needed]


def _product_rule(
    cotangents: registry.Derivatives,
    inputs: registry.Values,
    _: registry.Values,
    needed: registry.Needed,
    *,
    op: str,
) -> registry.Derivatives:
    (g,), (a, b) = cotangents, inputs
    return [
        strict.zero_product(g, b, op=op) if needed[0] else None,
        strict.zero_product(a, g, op=op) if needed[1] else None,
    ]


def _quotient_rule(
    cotangents: registry.Derivatives,
    inputs: registry.Values,
    outputs: registry.Values,
    needed: registry.Needed,
    *,
    op: str,
) -> registry.Derivatives:
    (g,), (_, b), (quotient,) = cotangents, inputs, outputs
    change = lambda: strict.zero_quotient(strict.zero_product(quotient, g, op=op), b, op=op)
    return [
        strict.zero_quotient(g, b, op=op) if needed[0] else None,
        lax.neg(change()) if needed[1] else None,
    ]


registry.RULES[strict.zero_product_p] = _product_rule
registry.RULES[strict.zero_quotient_p] = _quotient_rule


def _twin_jvp(
    primitive: core.Primitive, primals: Sequence, tangents: Sequence, /, **params: Any
) -> tuple[Any, Any]:
    moving = tuple(tangent is not None for tangent in tangents)
    directions = [tangent for tangent in tangents if tangent is not None]
    steps = _push_steps(primitive, tuple(params.items()), tuple(map(_type_of, primals)), moving)
    value, moved = steps.run(*primals, *directions)
    return value, moved


def _twin_transpose(
    primitive: core.Primitive, g: Any, operands: Sequence, shapes: Sequence, /, **params: Any
) -> Sequence[Any]:
    """Transpose a product or quotient in which a linear argument of the user's function stands."""
    place = next(k for k, operand in enumerate(operands) if operand is None)
    if primitive in (lax.mul_p, lax.div_p):
        found = _STRICT[primitive](g, operands[1 - place], op=primitive.name)
        if found.shape != shapes[place]:  # a scalar that was repeated
            found = lax.reduce_sum(found, tuple(range(found.ndim)))
    else:
        of = lambda x: primitive.bind(*operands[:place], x, *operands[place + 1 :], **params)
        (found,) = jax.linear_transpose(of, jax.ShapeDtypeStruct(shapes[place], g.dtype))(g)
    return [found if k == place else None for k in range(len(operands))]


def _twin_batched(
    primitive: core.Primitive, operands: Sequence, batched: Sequence, /, **params: Any
) -> tuple[Any, int]:
    """Batch the operation as JAX does, and put the twin back in."""
    types = tuple(map(_type_of, operands))
    steps = _batched_steps(primitive, tuple(params.items()), types, tuple(batched))
    return steps.run(*operands)[0], 0


class _Type(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any
    weak_type: bool
    sharding: Any  # of explicit axes of a mesh; None without

    def blank(self) -> Any:
        return jax.ShapeDtypeStruct(
            self.shape, self.dtype, weak_type=self.weak_type, sharding=self.sharding
        )


def _type_of(value: Any) -> _Type:
    aval = jax.typeof(value)
    return _Type(aval.shape, aval.dtype, aval.weak_type, explicit_sharding(value))


class _Steps(NamedTuple):
    """A program of plain operations, to be run on values of any trace.

    Attributes:
      steps: For each operation a function of a list of values, its operands and its results.
      constants: The variables that have a value from the start.
      inputs: Those of the arguments.
      outputs: Those of the results.
    """

    steps: list[tuple[Callable, list, list]]
    constants: dict
    inputs: list
    outputs: list

    def run(self, *values: Any) -> list[Any]:
        env = self.constants | dict(zip(self.inputs, values, strict=True))
        read = lambda atom: atom.val if jaxprs.is_literal(atom) else env[atom]
        for function, operands, results in self.steps:
            outputs = function(control_flow.agree(*map(read, operands)))
            env.update(zip(results, outputs, strict=True))
        return [read(atom) for atom in self.outputs]


@functools.lru_cache(maxsize=4096)
def _push_steps(
    primitive: core.Primitive, params: tuple, types: tuple[_Type, ...], moving: tuple
) -> _Steps:
    """Return `(*inputs, *tangents) -> (value, tangent)`: JAX's rule, with strict products."""
    places = [k for k, moves in enumerate(moving) if moves]

    def push(*operands: Any) -> tuple:
        primals, directions = list(operands[: len(types)]), operands[len(types) :]

        def along(*moved: Any) -> Any:
            full = list(primals)
            for k, value in zip(places, moved, strict=True):
                full[k] = value
            return primitive.bind(*full, **dict(params))

        return jax.jvp(along, tuple(primals[k] for k in places), directions)

    blanks = [kind.blank() for kind in (*types, *(types[k] for k in places))]
    return _steps(jax.make_jaxpr(push)(*blanks), len(types), primitive.name)


@functools.lru_cache(maxsize=4096)
def _batched_steps(
    primitive: core.Primitive, params: tuple, types: tuple[_Type, ...], axes: tuple
) -> _Steps:
    batched = jax.vmap(lambda *values: primitive.bind(*values, **dict(params)), in_axes=axes)
    program = jax.make_jaxpr(batched)(*(kind.blank() for kind in types))
    return _steps(program, len(types), primitive.name)


def _steps(closed: Any, num_fixed: int, op: str) -> _Steps:
    """Lay a rule out: strict products where it is linear, after so many inputs, else twins."""
    program = jaxprs.open_jaxpr(closed)
    linear = set(program.invars[num_fixed:])
    steps = []
    for eqn in program.eqns:
        moves = any(not jaxprs.is_literal(atom) and atom in linear for atom in eqn.invars)
        if moves:
            linear.update(eqn.outvars)
        is_strict = moves and eqn.primitive in _STRICT and _needs_guard(eqn)
        act = functools.partial(_strict_step, op) if is_strict else jaxprs.bind_here
        changed = eqn if moves else guarded(eqn)
        steps.append((functools.partial(act, changed), eqn.invars, eqn.outvars))
    constants = dict(zip(program.constvars, jaxprs.constants(closed), strict=True))
    return _Steps(steps, constants, program.invars, program.outvars)


def _strict_step(op: str, eqn: Any, values: Sequence[Any]) -> list[Any]:
    dtype = eqn.outvars[0].aval.dtype
    values = [x if x.dtype == dtype else lax.convert_element_type(x, dtype) for x in values]
    return [_STRICT[eqn.primitive](*values, op=op, **eqn.params)]


def _strict_inner(a: Any, b: Any, *, dimension_numbers: tuple, op: str, **_: Any) -> Any:
    """Multiply vector by vector: the sum of strict products over the contracted axes."""
    ((over_a, over_b), (batch_a, batch_b)) = dimension_numbers
    a = lax.transpose(a, (*batch_a, *over_a))
    b = lax.transpose(b, (*batch_b, *over_b))
    return lax.reduce_sum(strict.zero_product(a, b, op=op), tuple(range(len(batch_a), a.ndim)))


_STRICT = {
    lax.mul_p: lambda a, b, *, op, **_: strict.zero_product(a, b, op=op),
    lax.div_p: lambda t, b, *, op, **_: strict.zero_quotient(t, b, op=op),
    lax.dot_general_p: _strict_inner,
}
