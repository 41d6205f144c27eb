"""What recipes refuse before they trace: values that are known and make no problem."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.bilevel.numbers import is_traced
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


def require_above(caller: str, bound: float, *, or_equal: bool = False, **values: Any) -> None:
    """Refuse numbers and arrays that are not above a bound; traced ones pass.

    Args:
      caller: The recipe; it opens the message.
      bound: The bound.
      or_equal: Whether the bound itself will do.
      **values: Numbers or arrays by name.

    Raises:
      TypeError: If a value is no real number or array of them.
      ValueError: If one is not above the bound, or not finite.

    Example:
      >>> require_above("tune_regularizer", 0, start=-1.0)
      Traceback (most recent call last):
      ...
      ValueError: tune_regularizer needs a finite start > 0, got start=-1.0.
    """
    for name, value in values.items():
        if is_traced(value):
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" and array.dtype != jnp.bfloat16:
            raise TypeError(f"{caller} needs a real number as {name}, got {name}={value!r}.")
        array = array.astype(np.float64)
        is_above = array >= bound if or_equal else array > bound
        if not np.all(is_above & np.isfinite(array)):
            sign = ">=" if or_equal else ">"
            raise ValueError(f"{caller} needs a finite {name} {sign} {bound}, got {name}={value}.")


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
