r"""Run a program as it was traced, but with every rounding in double precision.

A float32 program $\hat f$ rounds after each operation; the function that its author means is

$$f = f_N \circ \dots \circ f_1 \quad\text{with the same}\ f_i, \qquad
  \hat f(x) = f(x)\,(1 + O(\epsilon_{32}))$$

Finite differences of $\hat f$ lose half of its seven digits or more; those of $f$ do not. The
jaxpr is kept (the same literals, branches, loops and random bits), only the floating dtypes in it
grow; what cannot grow (callbacks, kernels of its own, bit casts) runs as it is.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs

# A wider dtype would change the bits themselves, the sample drawn, or foreign code.
_KEPT = {"bitcast_convert_type", "nextafter", "random_gamma", "rng_uniform"}
_KEPT |= {"ffi_call", "io_callback", "pallas_call", "pure_callback"}


class Widened:
    """A traced function whose floating values are float64 and complex128.

    Attributes:
      epsilon: Relative rounding of the coarsest operation that depends on floating values:
        that of float64 unless something could not be widened.
    """

    def __init__(self, closed: Any):
        """Keep the jaxpr."""
        self.closed = closed
        self.epsilon = float(np.finfo(np.float64).eps)

    def __call__(self, *values: Any) -> list[Any]:
        """Evaluate on one wide value an input; to be called where `jax.enable_x64(True)` holds."""
        return self._run(self.closed, values)

    def _run(self, closed: Any, values: Sequence[Any]) -> list[Any]:
        jaxpr = jaxprs.open_jaxpr(closed)
        env = dict(zip(jaxpr.constvars, map(widened, jaxprs.constants(closed)), strict=True))
        env.update(zip(jaxpr.invars, values, strict=True))
        read = lambda atom: literal(atom) if jaxprs.is_literal(atom) else env[atom]
        for eqn in jaxpr.eqns:
            env.update(
                zip(eqn.outvars, self.apply(eqn, [read(a) for a in eqn.invars]), strict=True)
            )
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, eqn: Any, values: list[Any]) -> Sequence[Any]:
        """Run one equation on wide values."""
        kind = jaxprs.kind_of_call(eqn)
        if kind in ("jit", "remat", "custom_jvp", "custom_vjp"):
            return self._run(jaxprs.called_jaxpr(eqn), values)
        if kind == "cond":
            branches = [lambda *v, b=b: self._run(b, v) for b in jaxprs.cond_branches(eqn)]
            return jax.lax.switch(values[0], branches, *values[1:])
        if kind == "scan":
            return self._scan(jaxprs.scan_parts(eqn), values)
        if kind == "while":
            parts = jaxprs.while_parts(eqn)
            for_condition, for_body, carry = parts.split(values)
            return jax.lax.while_loop(
                lambda carry: self._run(parts.condition, [*for_condition, *carry])[0],
                lambda carry: self._run(parts.body, [*for_body, *carry]),
                list(carry),
            )
        if eqn.primitive.name == "custom_linear_solve":
            consts = eqn.params["const_lengths"]
            first = consts.matvec + consts.vecmat
            last = first + consts.solve + consts.transpose_solve
            inputs = [*values[first : first + consts.solve], *values[last:]]
            return self._run(eqn.params["jaxprs"].solve, inputs)
        if eqn.primitive.name == "reduce_precision":
            return values
        if eqn.primitive.name not in _KEPT:
            try:
                found = _bind(eqn, values, self._wide_params(eqn.params))
            except (TypeError, ValueError, NotImplementedError, AssertionError, NameError):
                found = []  # a primitive that has no wide form
            if [x.dtype for x in found] == [wide_dtype(var.aval.dtype) for var in eqn.outvars]:
                return found
        return self._narrow(eqn, values)

    def _scan(self, parts: jaxprs.ScanParts, values: list[Any]) -> list[Any]:
        consts, carry, xs = parts.split_inputs(values)

        def body(carry: list, x: list) -> tuple[list, list]:
            found = self._run(parts.body, [*consts, *carry, *x])
            carried, ys = parts.split_outputs(found)
            return list(carried), list(ys)

        options = {"length": parts.length, "reverse": parts.reverse, "unroll": parts.unroll}
        carried, ys = jax.lax.scan(body, list(carry), list(xs), **options)
        return [*carried, *ys]

    def _wide_params(self, params: dict[str, Any]) -> dict[str, Any]:
        wide = {}
        for name, value in params.items():
            if isinstance(value, np.dtype):
                value = wide_dtype(value)
            elif name == "precision":
                value = None  # how a product of narrow numbers rounds
            elif hasattr(value, "eqns"):
                shapes = [_shape(var.aval) for var in jaxprs.open_jaxpr(value).invars]
                closed = jax.make_jaxpr(lambda *v, j=value: self._run(j, v))(*shapes)
                value = closed if hasattr(value, "consts") else jaxprs.open_jaxpr(closed)
            wide[name] = value
        return wide

    def _narrow(self, eqn: Any, values: list[Any]) -> Sequence[Any]:
        inputs = []
        for atom, value in zip(eqn.invars, values, strict=True):
            if is_inexact(atom.aval):
                self.epsilon = max(self.epsilon, float(jnp.finfo(atom.aval.dtype).eps))
                value = jax.lax.convert_element_type(value, atom.aval.dtype)
            inputs.append(value)
        return [widened(value) for value in jaxprs.bind_here(eqn, inputs)]


def is_inexact(leaf: Any) -> bool:
    """Tell whether a value is floating or complex."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def wide_dtype(dtype: Any) -> Any:
    """Return the double-precision dtype of the same kind; others as they are."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.dtype(np.complex128)
    return np.dtype(np.float64) if jnp.issubdtype(dtype, jnp.floating) else dtype


def widened(value: Any) -> Any:
    """Turn a floating or complex array into double precision; return others as they are."""
    value = value if hasattr(value, "dtype") else np.asarray(value)
    if not is_inexact(value) or value.dtype == wide_dtype(value.dtype):
        return value
    if isinstance(value, jax.Array):  # perhaps a tracer
        return jax.lax.convert_element_type(value, wide_dtype(value.dtype))
    return value.astype(wide_dtype(value.dtype))


def literal(atom: Any) -> Any:
    """Return a number written into a jaxpr, wide."""
    value = np.asarray(atom.val, atom.aval.dtype)  # 0.1 of float32 stays the number it was
    return jnp.asarray(value.astype(wide_dtype(value.dtype)))


def _shape(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, wide_dtype(aval.dtype))


def _bind(eqn: Any, values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    outputs = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(params))
    return outputs if eqn.primitive.multiple_results else [outputs]
