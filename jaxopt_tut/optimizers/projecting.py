"""What all projections share: leaves laid end to end, and no number for an empty set."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

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
    """Make a projection of trees from one of vectors, as `ravel` lays the leaves."""

    def project(tree: PyTree) -> PyTree:
        (require_real if is_real else require_inexact)(tree, caller)
        vector, unravel = ravel(tree)
        return unravel(onto(vector)) if vector.size else tree

    return coupled(project)


def coupled(project: Projection) -> Projection:
    """Note that a set is no box, so that steps scaled by coordinate do not go with it."""
    vars(project).update(is_separable=False)
    return project


def valid(x: Inexact[Array, "*shape"], *conditions: Bool[Array, "..."]) -> Inexact[Array, "*shape"]:
    """Make all entries, and their derivatives, NaN unless all entries of all conditions hold."""
    holds = jnp.all(jnp.stack([jnp.all(condition) for condition in conditions]))
    return x * jnp.where(holds, 1, jnp.nan).astype(x.dtype)


def require_finite_array(caller: str, name: str, value: Any) -> None:
    """Refuse a static array with an entry that is not finite."""
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
