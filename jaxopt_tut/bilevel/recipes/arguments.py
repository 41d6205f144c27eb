"""What recipes refuse before they trace: values that are known and make no problem."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree


def require_counts(caller: str, *, num_steps: Any, inner_steps: Any = 1) -> None:
    """Refuse numbers of steps that are none."""
    for name, value, least in (("num_steps", num_steps, 0), ("inner_steps", inner_steps, 1)):
        try:
            is_count = not isinstance(value, bool) and operator.index(value) >= least
        except TypeError:
            is_count = False
        if not is_count:
            raise ValueError(
                f"{caller} needs a whole number {name} >= {least}, got {name}={value!r}."
            )


def require_rows(caller: str, what: str, **trees: PyTree) -> int:
    """Refuse trees whose leaves have not one common leading axis, or an empty one."""
    one_by_one = ({name: tree} for name, tree in trees.items())
    shapes = [(name, jnp.shape(leaf)) for tree in one_by_one for name, leaf in named_leaves(tree)]
    for name in trees:
        if not jax.tree.leaves(trees[name]):
            raise ValueError(f"{caller} needs arrays with a leading axis of {what}, got no {name}.")
    first, shape = shapes[0]
    for name, other in shapes:
        if len(other) == 0 or other[0] == 0:
            raise ValueError(
                f"{caller} needs one or more {what} along the leading axis, got shape {other} at "
                f"{name!r}."
            )
        if other[0] != shape[0]:
            raise ValueError(
                f"{caller} needs one leading axis of {what}, got {shape} at {first!r}, {other} at "
                f"{name!r}."
            )
    return shape[0]


def require_some(caller: str, **trees: PyTree) -> None:
    """Refuse trees with an array that has no entries: their mean is not a number."""
    for name, leaf in named_leaves(trees):
        if 0 in jnp.shape(leaf):
            tree = name.split("/")[0]
            raise ValueError(
                f"{caller} needs one or more examples in {tree}, got shape {jnp.shape(leaf)} at "
                f"{name!r}."
            )
