r"""Functions whose derivatives take zero times infinity as zero.

The program of a function is rewritten equation by equation: an operation with a slope that may
be infinite or not a number, or that may meet such a cotangent, becomes its twin, the same operation
with another derivative. The twin's rule is JAX's own, rewritten in turn: what is linear in the
tangent multiplies by `strict.zero_product`, and what is not is made of twins again, so that every
further derivative keeps the promise.
"""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import registry, strict
from jaxopt_tut.autodiff.primitives import define_primitive, is_tracer, type_of
from jaxopt_tut.autodiff.registry import primitive_named

_NAMES = (
    *("mul", "div", "rem", "pow", "integer_pow", "square", "sqrt", "rsqrt", "cbrt"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("erf", "erfc", "erf_inv", "lgamma", "digamma", "polygamma", "igamma", "igammac"),
    *("bessel_i0e", "bessel_i1e", "regularized_incomplete_beta", "abs", "max", "min"),
)
_ELEMENTWISE = frozenset(p for p in map(primitive_named, _NAMES) if p is not None)
_REDUCTIONS = ("reduce_max", "reduce_min", "reduce_prod", "cumprod", "dot_general")
GUARDED = _ELEMENTWISE | {p for p in map(primitive_named, _REDUCTIONS) if p is not None}
"""The primitives that get a twin."""


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
        leaves, tree = jax.tree.flatten((args, kwargs))
        places = [k for k, leaf in enumerate(leaves) if is_tracer(leaf)]
        result: list[Any] = []

        def of_tracers(*tracers: Any) -> list[Any]:
            full = list(leaves)
            for k, tracer in zip(places, tracers, strict=True):
                full[k] = tracer
            args, kwargs = jax.tree.unflatten(tree, full)
            found, found_tree = jax.tree.flatten(fun(*args, **kwargs))
            is_array = [isinstance(leaf, jax.Array) for leaf in found]
            result[:] = [found, found_tree, is_array]
            return [leaf for leaf, keep in zip(found, is_array, strict=True) if keep]

        closed = jax.make_jaxpr(of_tracers)(*(leaves[k] for k in places))
        arrays = iter(jaxprs.function_of(rewritten(closed))(*(leaves[k] for k in places)))
        found, found_tree, is_array = result
        whole = [next(arrays) if flag else x for x, flag in zip(found, is_array, strict=True)]
        return jax.tree.unflatten(found_tree, whole)

    return safe


_REWRITTEN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def rewritten(jaxpr: Any) -> Any:
    """Exchange the guarded operations of a jaxpr for their twins, inside calls too.

    JAX keeps what it has compiled by the identity of a jaxpr, and hands out the same one for a
    function that it has traced before; hence the memory, which lasts as long as the jaxpr.

    Args:
      jaxpr: A closed or an open jaxpr.

    Returns:
      The same with other equations; the very same where there is nothing to do.
    """
    if jaxpr in _REWRITTEN:
        found = _REWRITTEN[jaxpr]
        return jaxpr if found is None else found
    one = jaxprs.open_jaxpr(jaxpr)
    eqns = [_rewritten_equation(eqn) for eqn in one.eqns]
    if all(new is old for new, old in zip(eqns, one.eqns, strict=True)):
        _REWRITTEN[jaxpr] = None
        return jaxpr
    found = one.replace(eqns=eqns)
    if one is not jaxpr:
        found = jaxpr.replace(jaxpr=found)
    _REWRITTEN[jaxpr] = found
    return found


def _rewritten_equation(eqn: core.JaxprEqn) -> core.JaxprEqn:
    if eqn.primitive in GUARDED:
        return eqn.replace(primitive=twin(eqn.primitive)) if _needs_guard(eqn) else eqn
    return jaxprs.with_bodies(eqn, rewritten)


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
    registry.RULES[found] = functools.partial(_twin_rule, found)
    return found


def is_twin(primitive: core.Primitive) -> bool:
    """Tell whether a primitive was made by `twin`."""
    return primitive.name.startswith("zero_safe_")


def _twin_rule(found: Any, cotangents: list, inputs: list, _: Any, needed: tuple, **params: Any):
    """Send a cotangent back, for this library's engine: transpose what `_twin_jvp` pushes."""

    def along(*moving: Any) -> Any:
        rest = iter(moving)
        return found.bind(
            *(next(rest) if k else x for k, x in zip(needed, inputs, strict=True)), **params
        )

    moving = [x for x, wanted in zip(inputs, needed, strict=True) if wanted]
    pulled = iter(jax.vjp(along, *moving)[1](cotangents[0]))
    return [next(pulled) if wanted else None for wanted in needed]


def _product_rule(cotangents: list, inputs: list, _: Any, needed: tuple, *, op: str) -> list:
    (g,), (a, b) = cotangents, inputs
    return [
        strict.zero_product(g, b, op=op) if needed[0] else None,
        strict.zero_product(a, g, op=op) if needed[1] else None,
    ]


def _quotient_rule(cotangents: list, inputs: list, outputs: list, needed: tuple, *, op: str):
    (g,), (_, b), (quotient,) = cotangents, inputs, outputs
    change = lambda: strict.zero_quotient(strict.zero_product(quotient, g, op=op), b, op=op)
    return [
        strict.zero_quotient(g, b, op=op) if needed[0] else None,
        lax.neg(change()) if needed[1] else None,
    ]


registry.RULES[strict.zero_product_p] = _product_rule
registry.RULES[strict.zero_quotient_p] = _quotient_rule


def _twin_jvp(primitive: Any, primals: Sequence, tangents: Sequence, **params: Any) -> tuple:
    moving = tuple(tangent is not None for tangent in tangents)
    directions = [tangent for tangent in tangents if tangent is not None]
    steps = _push_steps(primitive, tuple(params.items()), tuple(map(_type_of, primals)), moving)
    value, moved = steps.run(*primals, *directions)
    return value, moved


def _twin_transpose(
    primitive: Any, g: Any, operands: Sequence, shapes: Sequence, **params: Any
) -> Sequence[Any]:
    """Transpose a product or quotient in which a linear argument of the user's function stands."""
    place = next(k for k, operand in enumerate(operands) if operand is None)
    if primitive in _STRICT:
        found = _STRICT[primitive](g, operands[1 - place])
        if found.shape != shapes[place]:  # a scalar that was repeated
            found = lax.reduce_sum(found, tuple(range(found.ndim)))
    else:
        of = lambda x: primitive.bind(*operands[:place], x, *operands[place + 1 :], **params)
        (found,) = jax.linear_transpose(of, jax.ShapeDtypeStruct(shapes[place], g.dtype))(g)
    return [found if k == place else None for k in range(len(operands))]


def _twin_batched(primitive: Any, operands: Sequence, axes: Sequence, **params: Any) -> tuple:
    """Batch the operation as JAX does, and put the twin back in."""
    types = tuple(map(_type_of, operands))
    steps = _batched_steps(primitive, tuple(params.items()), types, tuple(axes))
    return steps.run(*operands)[0], 0


class _Type(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any
    weak_type: bool

    def blank(self) -> Any:
        return jax.ShapeDtypeStruct(self.shape, self.dtype, weak_type=self.weak_type)


def _type_of(value: Any) -> _Type:
    aval = jax.typeof(value)
    return _Type(aval.shape, aval.dtype, aval.weak_type)


class _Steps(NamedTuple):
    """A program of plain operations, to be run on values of any trace.

    Attributes:
      steps: A function, its operands and its result each.
      inputs: The variables of the arguments.
      outputs: Those of the results.
    """

    steps: list[tuple[Callable, list, Any]]
    inputs: list
    outputs: list

    def run(self, *values: Any) -> list[Any]:
        env = dict(zip(self.inputs, values, strict=True))
        read = lambda atom: atom.val if jaxprs.is_literal(atom) else env[atom]
        for function, operands, result in self.steps:
            env[result] = function(*strict.together(*map(read, operands)))
        return [read(atom) for atom in self.outputs]


@functools.lru_cache(maxsize=4096)
def _push_steps(primitive: Any, params: tuple, types: tuple[_Type, ...], moving: tuple) -> _Steps:
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
    program = jaxprs.open_jaxpr(jax.make_jaxpr(push)(*blanks))
    return _steps(program, set(program.invars[len(types) :]), primitive.name)


@functools.lru_cache(maxsize=4096)
def _batched_steps(primitive: Any, params: tuple, types: tuple[_Type, ...], axes: tuple) -> _Steps:
    batched = jax.vmap(lambda *values: primitive.bind(*values, **dict(params)), in_axes=axes)
    program = jax.make_jaxpr(batched)(*(kind.blank() for kind in types))
    return _steps(jaxprs.open_jaxpr(program), set(), primitive.name)


def _steps(program: Any, linear: set, op: str) -> _Steps:
    """Lay a rule out, with strict products where it is linear and twins everywhere else."""
    steps = []
    for eqn in program.eqns:
        touched = [not jaxprs.is_literal(atom) and atom in linear for atom in eqn.invars]
        if any(touched):
            linear.update(eqn.outvars)
        steps.append((_function(eqn, touched, op), eqn.invars, eqn.outvars[0]))
    return _Steps(steps, program.invars, program.outvars)


_STRICT = {lax.mul_p: strict.zero_product, lax.div_p: strict.zero_quotient}


def _function(eqn: core.JaxprEqn, linear: Sequence[bool], op: str) -> Callable:
    """Return what an equation does, given which of its operands depend on the tangent."""
    if any(linear) and eqn.primitive in _STRICT and _needs_guard(eqn):
        return functools.partial(_STRICT[eqn.primitive], op=op)
    if any(linear) and eqn.primitive is lax.dot_general_p and _needs_guard(eqn):
        return functools.partial(_strict_inner, dimensions=eqn.params["dimension_numbers"], op=op)
    changed = eqn if any(linear) else _rewritten_equation(eqn)
    return functools.partial(changed.primitive.bind, **changed.params)


def _strict_inner(a: Any, b: Any, *, dimensions: tuple, op: str) -> Any:
    """Multiply vector by vector: the sum of strict products over the contracted axes."""
    ((over_a, over_b), (batch_a, batch_b)) = dimensions
    a = lax.transpose(a, (*batch_a, *over_a))
    b = lax.transpose(b, (*batch_b, *over_b))
    return lax.reduce_sum(strict.zero_product(a, b, op=op), tuple(range(len(batch_a), a.ndim)))
