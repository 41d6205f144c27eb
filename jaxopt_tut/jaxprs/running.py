"""Equations and jaxprs applied to values."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

from jaxopt_tut.jaxprs.reading import constants, open_jaxpr


def bind(eqn: core.JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """Apply an equation's primitive to new values, in the context it was traced in.

    The context holds what `jax.default_matmul_precision`, `jax.enable_x64` and the mesh were
    set to; without it the result could differ from the traced function's.

    Example:
      >>> import jax
      >>> eqn = jax.make_jaxpr(lambda x: 3 * x)(1.0).eqns[0]
      >>> [float(value) for value in bind(eqn, [3.0, 5.0])]
      [15.0]
    """
    with eqn.ctx.manager:
        return bind_here(eqn, values)


def bind_here(eqn: core.JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """Apply an equation's primitive to new values, in the current context.

    For loops that enter `eqn.ctx.manager` themselves, once for a run of equations.
    """
    primitive = eqn.primitive
    outputs = primitive.bind(*values, **primitive.get_bind_params(eqn.params))
    return list(outputs) if primitive.multiple_results else [outputs]


def function_of(jaxpr: Any) -> Callable[..., list[Any]]:
    """Turn a jaxpr back into a function of flat arguments.

    Example:
      >>> import jax
      >>> program = jax.make_jaxpr(lambda x, y: x - y)(1.0, 2.0)
      >>> [float(value) for value in function_of(program)(5.0, 2.0)]
      [3.0]
    """
    closed = jaxpr if hasattr(jaxpr, "consts") else core.ClosedJaxpr(jaxpr, ())
    return core.jaxpr_as_fun(closed)


def closure_convert(fun: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Make operands of the arrays that a function closes over, tracers among them.

    It does what `jax.closure_convert` does, which keeps every function that it is given, and all
    that this closes over, for as long as the process lives.

    Args:
      fun: A function of trees.
      *args: Arguments of the shapes and dtypes that it will be called with.

    Returns:
      A function of `(*args, *closed)`, and `closed`: what `fun` closes over.

    Example:
      >>> import jax.numpy as jnp
      >>> slope = jnp.array([2.0, 3.0])
      >>> line, closed = closure_convert(lambda x: slope * x, 1.0)
      >>> print(line(5.0, *closed), line(5.0, 10 * slope))
      [10. 15.] [100. 150.]
    """
    program, shapes = jax.make_jaxpr(fun, return_shape=True)(*args)
    structure = jax.tree.structure(shapes)
    body = open_jaxpr(program)

    def converted(*operands: Any) -> Any:
        values, closed = operands[: len(args)], operands[len(args) :]
        run = core.jaxpr_as_fun(core.ClosedJaxpr(body, closed))
        return jax.tree.unflatten(structure, run(*jax.tree.leaves(values)))

    return converted, constants(program)
