"""What all projections share: leaves laid end to end, and no number for an empty set."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxopt_tut.trees import named_leaves, require_inexact
from jaxopt_tut.types import PyTree
from jaxopt_tut.vectors import ravel

Projection = Callable[[PyTree], PyTree]


def on_vectors(
    caller: str,
    onto: Callable[[Float[Array, "dim"]], Float[Array, "dim"]],
    *,
    is_real: bool = False,
) -> Projection:
    """Make a projection of trees from one of vectors.

    Args:
      caller: The set's name; it opens messages.
      onto: Maps all leaves end to end, as `ravel` lays them.
      is_real: Whether complex leaves are refused.

    Returns:
      A function from trees to trees.
    """

    def project(tree: PyTree) -> PyTree:
        (require_real if is_real else require_inexact)(tree, caller)
        vector, unravel = ravel(tree)
        return unravel(onto(vector)) if vector.size else tree

    return coupled(project)


def coupled(project: Projection) -> Projection:
    """Note that a set is no box, so that steps scaled by coordinate do not go with it.

    Args:
      project: The projection onto the set.

    Returns:
      The same; `stationarity` reads the note.
    """
    vars(project).update(is_separable=False)
    return project


def valid(x: Float[Array, "*shape"], *conditions: Bool[Array, "..."]) -> Float[Array, "*shape"]:
    """Make all entries, and their derivatives, no numbers unless all conditions hold.

    Args:
      x: The answer.
      *conditions: Arrays of any shapes, all of whose entries must hold.

    Returns:
      `x` or what is not a number.

    Example:
      >>> import jax.numpy as jnp
      >>> print(valid(jnp.ones(2), jnp.array([True, False])))
      [nan nan]
    """
    holds = jnp.all(jnp.stack([jnp.all(condition) for condition in conditions]))
    return x * jnp.where(holds, 1, jnp.nan).astype(x.dtype)


def require_finite_array(caller: str, name: str, value: Any) -> None:
    """Refuse a static array with an entry that is not finite.

    Args:
      caller: The set's name; it opens the message.
      name: What the array is.
      value: The array; one of JAX passes.

    Raises:
      ValueError: If an entry of a static one is not finite.
    """
    if not isinstance(value, jax.Array) and not np.all(np.isfinite(value)):
        raise ValueError(f"{caller} needs a finite {name}, got {name}={value}.")


def require_real(tree: PyTree, caller: str) -> None:
    """Refuse leaves that are not floating.

    Args:
      tree: Parameters.
      caller: The set's name; it opens the message.

    Raises:
      TypeError: If a leaf is not; the message names it.
    """
    require_inexact(tree, caller)
    for name, leaf in named_leaves(tree):
        if jnp.iscomplexobj(leaf):
            raise TypeError(f"{caller} needs real parameters, got complex ones at {name!r}.")
