"""What of a call is traced, what is held fixed, and what the arrays in it are called."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxopt_tut.trees import Rebuild, path_name, require_inexact, split_arrays
from jaxopt_tut.types import Params, PyTree


class Parts(NamedTuple):
    """A tree taken apart, see `split_arrays`.

    Attributes:
      arrays: The leaves that are traced.
      names: Their paths.
      rebuild: What is held fixed, such as functions and flags; puts arrays in their places.
    """

    arrays: list[Any]
    names: list[str]
    rebuild: Rebuild


def take_apart(tree: PyTree) -> Parts:
    """Part the arrays of a tree, with their names, from the leaves that are held fixed."""
    arrays, rebuild = split_arrays(tree)
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return Parts(arrays, [leaf_name(paths[place][0]) for place in rebuild.places], rebuild)


def take_parameters(caller: str, params: Params) -> Parts:
    """Take parameters apart that are to be differentiated by: all their arrays are inexact."""
    parts = take_apart(params)
    require_inexact(parts.rebuild.alone(parts.arrays), caller)
    return parts


def first_by_position(
    fun: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Move the first argument of a function, which holds the parameters, to the front.

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


def leaf_name(path: tuple[Any, ...]) -> str:
    """Name a leaf by its path, without the `value` in which flax nnx keeps an array."""
    if path and getattr(path[-1], "name", None) in ("value", "raw_value"):
        path = path[:-1]
    return path_name(path) if path else ""
