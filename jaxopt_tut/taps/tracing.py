"""Trace a function and name the arrays that come into it."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.trees import path_name
from jaxopt_tut.types import PyTree

_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)


class Program(NamedTuple):
    """A traced function.

    Attributes:
      jaxpr: Its closed jaxpr; the inputs are the array leaves of the arguments.
      arrays: Those leaves.
      result: The structure of what it returns, with shapes and dtypes for leaves.
      names: The path of the parameter leaf that each input is, None for data.
      constant_names: The same for the arrays it closes over, by `id`.
    """

    jaxpr: Any
    arrays: list[Any]
    result: PyTree
    names: list[str | None]
    constant_names: dict[int, str]


def traced_leaves(tree: PyTree) -> list[bool]:
    """Tell the leaves that are traced from those that are held fixed, such as functions and flags.

    Args:
      tree: Any pytree.

    Returns:
      For each leaf whether it is an array, or a Python float outside a module: a float that is an
      attribute (equinox keeps the rate of a dropout so) steers Python code.
    """
    return [
        isinstance(leaf, _ARRAYS)
        or (
            isinstance(leaf, float | complex)
            and not (path and isinstance(path[-1], jax.tree_util.GetAttrKey))
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def trace_program(
    caller: str, fun: Callable, args: tuple, *, may_close_over: bool = True
) -> Program:
    """Trace `fun(*args)`, the leaves that are no arrays held fixed.

    The array leaves of the first argument are the parameters. If that argument is one bare
    array and `fun` closes over arrays (a model bound to its weights), it is data, and the arrays
    closed over are the parameters, named as in the module behind `fun` if there is one.

    Args:
      caller: The name of the function that asks; it opens the messages.
      fun: The function.
      args: Its arguments, or `jax.ShapeDtypeStruct` in place of arrays.
      may_close_over: Whether the parameters may be arrays that `fun` closes over.

    Returns:
      The program.

    Raises:
      TypeError: If `fun` is not callable, or does what no trace can follow, such as a Python
        `if` on the value of an array.
    """
    if not callable(fun):
        raise TypeError(f"{caller} needs a function, got {type(fun).__name__}.")
    paths, treedef = jax.tree_util.tree_flatten_with_path(args)
    leaves = [leaf for _, leaf in paths]
    dynamic = [i for i, traced in enumerate(traced_leaves(args)) if traced]

    def flat(*arrays):
        merged = list(leaves)
        for i, array in zip(dynamic, arrays, strict=True):
            merged[i] = array
        return fun(*jax.tree.unflatten(treedef, merged))

    arrays = [leaves[i] for i in dynamic]
    try:
        jaxpr, result = jax.make_jaxpr(flat, return_shape=True)(*arrays)
    except jax.errors.JAXTypeError as error:
        name = getattr(fun, "__name__", type(fun).__name__)
        reason = str(error).splitlines()[0]
        raise TypeError(f"{caller} cannot trace {name}: {reason}") from error
    except Exception as error:
        error.add_note(f"{caller} was tracing the function when this happened.")
        raise
    num_params = len(jax.tree.leaves(args[:1]))
    names: list[str | None] = [
        leaf_name(paths[i][0][1:]) if i < num_params else None for i in dynamic
    ]
    constants = {id(value): f"constant{k}" for k, value in enumerate(_closed_over(jaxpr))}
    closes_over = may_close_over and bool(constants) and names == [""]
    if closes_over:
        names = [None]
        model = inspect.unwrap(fun)
        model = getattr(model, "__self__", model)
        constants |= {
            id(leaf): leaf_name(path) for path, leaf in jax.tree_util.tree_leaves_with_path(model)
        }
    return Program(jaxpr, arrays, result, names, constants if closes_over else {})


def is_repeatable(program: Program) -> bool:
    """Tell whether a function can be run once more for its exact bits: eager, without effects.

    Traced anew, what JAX compiles as one piece when run eagerly (`jnp.mean`, `jax.nn.gelu`) is
    a list of operations, each rounded on its own.

    Args:
      program: What `trace_program` returned.

    Returns:
      False under a transformation, and for a function that prints or calls back.
    """
    return not program.jaxpr.effects and not any(map(_is_tracer, program.arrays))


def _is_tracer(array) -> bool:
    """Tell a tracer from an array: only an array lies on a device."""
    if not isinstance(array, jax.Array):
        return False
    try:
        return not array.addressable_shards
    except (AttributeError, jax.errors.ConcretizationTypeError):
        return True


def _closed_over(jaxpr) -> list[Any]:
    """List the floating arrays that a program holds as constants."""
    found = []
    seen = [jaxpr]
    while seen:
        one = seen.pop()
        found += [value for value in jaxprs.constants(one) if np.ndim(value)]
        for eqn in jaxprs.open_jaxpr(one).eqns:
            seen += [sub.jaxpr for sub in jaxprs.sub_jaxprs(eqn)]
    return [value for value in found if jax.numpy.issubdtype(value.dtype, jax.numpy.inexact)]


def leaf_name(path: tuple) -> str:
    """Name a leaf by its path, without the `value` in which flax nnx keeps an array.

    Args:
      path: A key path.

    Returns:
      For instance `"layers/0/kernel"`; empty for a tree that is a single leaf.
    """
    if path and getattr(path[-1], "name", None) in ("value", "raw_value"):
        path = path[:-1]
    return path_name(path) if path else ""
