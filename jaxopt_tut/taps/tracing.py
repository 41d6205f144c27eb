"""What of a call is traced, what is held fixed, and what the arrays in it are called."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxopt_tut.trees import path_name, require_inexact
from jaxopt_tut.types import Params, PyTree

_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)


@dataclass(frozen=True)
class Parts:
    """A tree taken apart: its arrays, and what is held fixed, such as functions and flags.

    Attributes:
      arrays: The leaves that are traced.
      names: Their paths.
      is_traced: For each leaf whether it is one of them.
      fixed: The other leaves.
      treedef: The structure.
    """

    arrays: list[Any]
    names: list[str]
    is_traced: tuple[bool, ...]
    fixed: tuple[Any, ...]
    treedef: Any

    def whole(self, arrays: Iterable[Any]) -> PyTree:
        """Build the tree again, with other arrays."""
        return self._filled(arrays, self.fixed)

    def alone(self, arrays: Iterable[Any]) -> PyTree:
        """Build the tree of arrays alone: None stands for what is held fixed."""
        return self._filled(arrays, (None,) * len(self.fixed))

    def _filled(self, arrays: Iterable[Any], fixed: Iterable[Any]) -> PyTree:
        arrays, fixed = iter(arrays), iter(fixed)
        return self.treedef.unflatten(
            [next(arrays) if traced else next(fixed) for traced in self.is_traced]
        )


def take_apart(tree: PyTree) -> Parts:
    """Part the arrays of a tree from the leaves that are held fixed."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(tree)
    is_traced = tuple(_is_traced(path, leaf) for path, leaf in paths)
    traced = [one for one, is_one in zip(paths, is_traced, strict=True) if is_one]
    fixed = tuple(leaf for (_, leaf), is_one in zip(paths, is_traced, strict=True) if not is_one)
    names = [leaf_name(path) for path, _ in traced]
    return Parts([leaf for _, leaf in traced], names, is_traced, fixed, treedef)


def take_parameters(caller: str, params: Params) -> Parts:
    """Take parameters apart that are to be differentiated by: all their arrays are inexact."""
    parts = take_apart(params)
    require_inexact(parts.alone(parts.arrays), caller)
    return parts


def _is_traced(path: tuple[Any, ...], leaf: Any) -> bool:
    """Tell an array, or a number outside a module, from what is held fixed.

    A float that is an attribute (equinox keeps the rate of a dropout so) steers Python code.
    """
    is_attribute = bool(path) and isinstance(path[-1], jax.tree_util.GetAttrKey)
    return isinstance(leaf, _ARRAYS) or (isinstance(leaf, float | complex) and not is_attribute)


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
