"""Trace a function and name the arrays that come into it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.tracing import is_traced
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


def first_by_position(
    fun: Callable, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    """Move the first argument of a function, which holds the parameters, to the front.

    Args:
      fun: The function.
      args: The arguments given by position.
      kwargs: The arguments given by keyword.

    Returns:
      The same call; if nothing is given by position, the function's first argument now is.

    Example:
      >>> first_by_position(lambda params, x: None, (), {"x": 1, "params": 2})
      ((2,), {'x': 1})
    """
    kwargs = dict(kwargs)
    if args or not kwargs or not callable(fun):
        return args, kwargs
    try:
        first = next(iter(inspect.signature(fun).parameters.values()), None)
    except ValueError:  # a builtin that does not tell
        first = None
    if first is None or first.kind != first.POSITIONAL_OR_KEYWORD or first.name not in kwargs:
        return args, kwargs
    return (kwargs.pop(first.name),), kwargs


def trace_program(
    caller: str,
    fun: Callable,
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
    *,
    may_close_over: bool = True,
) -> Program:
    """Trace `fun(*args, **kwargs)`, the leaves that are no arrays held fixed.

    The array leaves of the first argument are the parameters. If that argument is one bare
    array and `fun` closes over arrays (a model bound to its weights), it is data, and the arrays
    closed over are the parameters, named as in the module behind `fun` if there is one.

    Args:
      caller: The name of the function that asks; it opens the messages.
      fun: The function.
      args: Its arguments, or `jax.ShapeDtypeStruct` in place of arrays.
      kwargs: Its keyword arguments, treated alike; their arrays come behind the others.
      may_close_over: Whether the parameters may be arrays that `fun` closes over.

    Returns:
      The program.

    Raises:
      TypeError: If `fun` is not callable, or does what no trace can follow, such as a Python
        `if` on the value of an array.
    """
    if not callable(fun):
        raise TypeError(f"{caller} needs a function, got {type(fun).__name__}.")
    call = args, dict(kwargs or {})
    paths, treedef = jax.tree_util.tree_flatten_with_path(call)
    leaves = [leaf for _, leaf in paths]
    dynamic = [i for i, traced in enumerate(traced_leaves(call)) if traced]

    def flat(*arrays):
        merged = list(leaves)
        for i, array in zip(dynamic, arrays, strict=True):
            merged[i] = array
        fresh_args, fresh_kwargs = jax.tree.unflatten(treedef, merged)
        return fun(*fresh_args, **fresh_kwargs)

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
        leaf_name(paths[i][0][2:]) if i < num_params else None for i in dynamic
    ]
    constants = {id(value): f"constant{k}" for k, value in enumerate(_closed_over(jaxpr))}
    closes_over = False
    if may_close_over and constants and "" in names:
        model = inspect.unwrap(fun)
        model = getattr(model, "__self__", model)
        weights = {
            id(leaf): leaf_name(path) for path, leaf in jax.tree_util.tree_leaves_with_path(model)
        }
        # beside other arrays, only a module's own weights tell that the bare array is its data
        closes_over = len(names) == 1 or not constants.keys().isdisjoint(weights)
        if closes_over:
            names = [None] * len(names)
            constants |= weights
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
    return not program.jaxpr.effects and not any(map(is_traced, program.arrays))


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
