"""What recipes refuse before they trace: values that are known and make no problem."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree


def require_counts(caller: str, *, num_steps: Any, inner_steps: Any = 1) -> None:
    """Refuse numbers of steps that are none.

    Args:
      caller: The recipe; it opens the message.
      num_steps: Outer steps: 0 or more.
      inner_steps: Inner steps: 1 or more.

    Raises:
      ValueError: If one of them is no whole number or too small.

    Example:
      >>> require_counts("maml", num_steps=-1)
      Traceback (most recent call last):
      ...
      ValueError: maml needs a whole number num_steps >= 0, got num_steps=-1.
    """
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
    """Refuse trees whose leaves have not one common leading axis, or an empty one.

    Args:
      caller: The recipe; it opens the message.
      what: What the axis counts.
      **trees: Trees of arrays by name.

    Returns:
      Its length.

    Raises:
      ValueError: If there is no leaf, or an axis is missing, empty or of another length.

    Example:
      >>> import numpy as np
      >>> require_rows("maml", "tasks", support=np.zeros((3, 2)), query=np.zeros((2, 2)))
      Traceback (most recent call last):
      ...
      ValueError: maml needs one leading axis of tasks, got (3, 2) at 'support', (2, 2) at 'query'.
    """
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
    """Refuse trees with an array that has no entries: their mean is not a number.

    Args:
      caller: The recipe; it opens the message.
      **trees: Trees of arrays by name.

    Raises:
      ValueError: If an array is empty.

    Example:
      >>> import numpy as np
      >>> require_some("distill", data=np.zeros((0, 2)))
      Traceback (most recent call last):
      ...
      ValueError: distill needs one or more examples in data, got shape (0, 2) at 'data'.
    """
    for name, leaf in named_leaves(trees):
        if 0 in jnp.shape(leaf):
            tree = name.split("/")[0]
            raise ValueError(
                f"{caller} needs one or more examples in {tree}, got shape {jnp.shape(leaf)} at "
                f"{name!r}."
            )
