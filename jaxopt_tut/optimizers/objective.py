"""The extra arguments by which a solver sees the function it descends: `value_fn` and friends.

They are those of `optax.scale_by_zoom_linesearch`: `update(updates, state, params, value=...,
grad=..., value_fn=...)`, and arguments by keyword that `value_fn` itself asks for.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from jaxopt_tut.trees import require_inexact, require_same_structure
from jaxopt_tut.types import Params, PyTree


def require_objective(
    caller: str, updates: PyTree, params: Params | None, **functions: Any
) -> None:
    """Refuse an `update` that lacks what the solver needs to look at its function."""
    if params is None:
        raise ValueError(f"{caller} needs params: call update(updates, state, params, ...).")
    for name, function in functions.items():
        if not callable(function):
            error = ValueError(
                f"{caller} needs {name}: call update(updates, state, params, {name}=...)."
            )
            vars(error).update(missing=name)  # for `step` to read
            raise error
    require_inexact(params, caller)
    require_same_structure(params, updates, caller)


def bind(function: Callable[..., Any], extra_args: Mapping[str, Any]) -> Callable[[Params], Any]:
    """Fix the keyword arguments of a function that are among the extra arguments of an update.

    Args:
      function: `value_fn` or `residual_fn`: a function of the parameters and maybe more.
      extra_args: All extra arguments; those the function does not name are for others.

    Returns:
      A function of the parameters alone.

    Example:
      >>> def loss(w, target):
      ...     return (w - target) ** 2
      >>> bind(loss, {"target": 1.0, "other": 5.0})(3.0)
      4.0
    """
    if not extra_args:
        return function
    # the first parameter is the tree of parameters, whatever its name
    names = list(inspect.signature(function).parameters)[1:]
    known = {name: extra_args[name] for name in names if name in extra_args}
    return lambda params: function(params, **known)


def within(function: Callable[..., Any], whole: PyTree) -> Callable[[Any], Any]:
    """Let a function of all parameters be called with those that a mask leaves.

    `optax.partition` and `optax.masked` show each of their transformations only its own part; the
    rest stands still while that looks around.
    """

    def fill(part: Any, rest: Any) -> Any:
        return rest if _is_masked(part) else part

    def call(params: PyTree) -> Any:
        return function(jax.tree.map(fill, params, whole, is_leaf=_is_masked))

    return call


def part_of(tree: PyTree, params: PyTree) -> PyTree:
    """Mask a tree as the parameters are masked."""
    mask = lambda part, leaf: part if _is_masked(part) else leaf
    return jax.tree.map(mask, params, tree, is_leaf=_is_masked)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
