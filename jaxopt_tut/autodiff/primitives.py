"""New primitives for JAX: the only module that knows `jax.interpreters`, their one public home."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import ad, batching, mlir

Jvp = Callable[..., tuple[Any, Any]]
"""`jvp(primals, tangents, **params) -> (value, tangent)`; a tangent that is zero is None."""

Transpose = Callable[..., Sequence[Any]]
"""`transpose(g, operands, shapes, **params) -> one cotangent or None an operand`; the operand that
is linear is None, and `shapes` has its shape as it has those of the others."""

Batch = Callable[..., tuple[Any, int]]
"""`batch(operands, axes, **params) -> (value, axis)`; an operand without a batch has axis None."""


def define_primitive(
    name: str,
    type_rule: Callable,
    compute: Callable,
    *,
    jvp: Jvp,
    transpose: Transpose,
    batch: Batch,
) -> core.Primitive:
    """Make a primitive with one result; `type_rule` and `compute` take operands and parameters."""
    made = core.Primitive(name)
    made.def_impl(compute)
    made.def_abstract_eval(type_rule)
    mlir.register_lowering(made, mlir.lower_fun(compute, multiple_results=False))

    def differentiate(primals: Sequence, tangents: Sequence, **params: Any) -> tuple[Any, Any]:
        moving = [None if isinstance(tangent, ad.Zero) else tangent for tangent in tangents]
        return jvp(primals, moving, **params)

    def transposed(g: Any, *operands: Any, **params: Any) -> Sequence[Any]:
        if isinstance(g, ad.Zero):
            return [None] * len(operands)
        linear = [ad.is_undefined_primal(operand) for operand in operands]
        pairs = list(zip(operands, linear, strict=True))
        shapes = [x.aval.shape if flag else np.shape(x) for x, flag in pairs]
        return transpose(g, [None if flag else x for x, flag in pairs], shapes, **params)

    ad.primitive_jvps[made] = differentiate
    ad.primitive_transposes[made] = transposed
    batching.primitive_batchers[made] = batch
    return made


def type_of(primitive: core.Primitive, *types: Any, **params: Any) -> Any:
    """Return the type (shape, dtype, sharding) of what a primitive gives."""
    return primitive.abstract_eval(*types, **params)[0]


def explicit_sharding(value: Any) -> Any:
    """Return the sharding that is part of a value's type; None where no axis is explicit."""
    sharding = jax.typeof(value).sharding
    return sharding if sharding.mesh.explicit_axes else None


def batch_in_front(operands: Sequence[Any], axes: Sequence[int | None]) -> list[Any]:
    """Move the batch of each operand to the front, and repeat the operands that have none.

    The operands are of one shape, but for the batch.
    """
    pairs = list(zip(operands, axes, strict=True))
    moved = [None if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in pairs]
    one = next(x for x in moved if x is not None)
    sharding, dims = explicit_sharding(one), tuple(range(1, one.ndim))
    repeated = lambda x: jax.lax.broadcast_in_dim(x, one.shape, dims, out_sharding=sharding)
    return [repeated(x) if m is None else m for x, m in zip(operands, moved, strict=True)]
