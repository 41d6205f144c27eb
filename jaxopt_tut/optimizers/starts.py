"""Where a search starts: trees of arrays, and the numbers and lists that users write for them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.trees import named_leaves, require_inexact
from jaxopt_tut.types import Params, PyTree


def as_start(caller: str, x0: PyTree) -> Params:
    """Return parameters as arrays, with integers as floating numbers where that is meant.

    An integer of Python has no precision of its own, and an array that is all of the start is one
    of numbers; an array of integers among others may be an index or a count.
    """
    x0 = _as_array(x0) if type(x0) in (list, tuple) else x0
    leaves = named_leaves(x0)
    for name, leaf in leaves:
        _require_numbers(caller, name, leaf)
    is_alone = len(leaves) == 1 and leaves[0][1] is x0
    x0 = jax.tree.map(lambda leaf: _floating(leaf, is_alone), x0)
    require_inexact(x0, caller)
    if not sum(leaf.size for leaf in jax.tree.leaves(x0)):
        got = "None" if x0 is None else "an empty tree"
        raise ValueError(f"{caller} needs at least one parameter, got {got}.")
    return x0


def _as_array(x0: list | tuple) -> Any:
    """Make an array of a list of numbers, or of lists of them; leave other lists alone."""
    if not _is_nested_list(x0):
        return x0
    try:
        return np.asarray(x0)
    except ValueError:  # of different lengths: a tree
        return x0


def _is_nested_list(thing: Any) -> bool:
    if type(thing) in (list, tuple):
        return all(map(_is_nested_list, thing))
    return isinstance(thing, int | float | complex | np.number) and not isinstance(thing, bool)


def _require_numbers(caller: str, name: str, leaf: Any) -> None:
    """Refuse what JAX would not take for an array, or not for the one that is meant."""
    if np.ma.is_masked(leaf):
        raise TypeError(
            f"{caller} needs parameters without a mask, got a masked array at {name!r}; leave out "
            "what is masked."
        )
    if isinstance(leaf, jax.Array):  # a tracer, too
        return
    try:
        kind = np.asarray(leaf).dtype.kind
    except ValueError:  # of different lengths
        kind = "O"
    if kind in "OSUMm":
        raise TypeError(
            f"{caller} needs floating or complex parameters, got "
            f"{type(leaf).__name__} {leaf!r:.60} at {name!r}."
        )


def _floating(leaf: Any, is_alone: bool) -> Any:
    is_plain = isinstance(leaf, int | np.integer) and not isinstance(leaf, bool)
    leaf = jnp.asarray(leaf if isinstance(leaf, jax.Array) else np.asarray(leaf))
    if (is_alone or is_plain) and jnp.issubdtype(leaf.dtype, jnp.integer):
        return leaf.astype(jnp.result_type(float))
    return leaf
