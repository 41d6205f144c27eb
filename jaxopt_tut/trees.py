"""What `optax.tree` lacks: naming leaves, choosing and refusing them, splitting off the arrays."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_tut.types import PyTree

__all__ = [
    "Rebuild",
    "at_least_single",
    "matching_names",
    "named_leaves",
    "path_name",
    "require_inexact",
    "require_same_structure",
    "split_arrays",
    "strong",
    "traced_leaves",
]


def path_name(path: tuple) -> str:
    """Return the readable name of a key path: its keys joined by slashes.

    Args:
      path: A key path as `jax.tree_util.tree_flatten_with_path` gives it.

    Returns:
      For instance `"layers/0/kernel"`; `"(root)"` for a tree that is a single leaf.

    Example:
      >>> tree = {"layers": [{"kernel": 1.0}]}
      >>> [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
      ['layers/0/kernel']
    """
    return jax.tree_util.keystr(path, simple=True, separator="/") or "(root)"


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """List the leaves of a tree with their names, in the order of `jax.tree.leaves`.

    Args:
      tree: Any pytree; `None` is an empty subtree, as everywhere in JAX.

    Returns:
      Pairs of `path_name` and leaf.

    Example:
      >>> named_leaves({"b": 1, "a": (2, None)})
      [('a/0', 2), ('b', 1)]
    """
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def matching_names(pattern: str, names: Collection[str]) -> set[str]:
    """Choose names by a pattern, as in the shell, in which every name stands for itself.

    `*` stands for any characters, slashes too, `?` for one, `[...]` for one of several. A pattern
    that is one of the names means that name alone, whatever is in it: a path such as `['w'][0]`
    chooses itself. Where a name has the brackets of the pattern in it, they are no class either.

    Args:
      pattern: The pattern, or a name.
      names: All there are.

    Returns:
      Those that are meant; none where nothing matches.

    Example:
      >>> sorted(matching_names("[ab]/*", ["a/x", "b/x", "c/x"]))
      ['a/x', 'b/x']
      >>> sorted(matching_names("w[0]*", ["w[0]/x", "w[1]/x", "w0/x"]))
      ['w[0]/x']
    """
    if pattern in names:
        return {pattern}
    for one in (pattern.replace("[", "[[]"), pattern):
        if found := {name for name in names if fnmatchcase(name, one)}:
            return found
    return set()


_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)


def traced_leaves(tree: PyTree) -> list[bool]:
    """Tell the leaves that are traced from those that are held fixed, such as functions and flags.

    Args:
      tree: Any pytree.

    Returns:
      For each leaf whether it is an array, or a Python float outside a module: a float that is an
      attribute (equinox keeps the rate of a dropout so) steers Python code.

    Example:
      >>> traced_leaves({"act": jnp.tanh, "bias": 0.5, "depth": 3, "weight": jnp.ones(2)})
      [False, True, False, True]
    """
    return [
        isinstance(leaf, _ARRAYS)
        or (
            isinstance(leaf, float | complex)
            and not (path and isinstance(path[-1], jax.tree_util.GetAttrKey))
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


@dataclass(frozen=True)
class Rebuild:
    """What a tree is beside its arrays: called with those, or with others, it returns the tree.

    Two are equal where the structures and the fixed leaves are, so that a compiled function takes
    it as a static argument if the fixed leaves have hashes.

    Attributes:
      structure: The structure of the tree.
      fixed: All leaves, with None for the arrays.
      places: Where the arrays stand among the leaves.
    """

    structure: Any
    fixed: tuple[Any, ...]
    places: tuple[int, ...]

    def __call__(self, arrays: Iterable[Any]) -> PyTree:
        """Return the tree with these for its arrays."""
        return self._filled(self.fixed, arrays)

    def alone(self, arrays: Iterable[Any]) -> PyTree:
        """Return a tree of the same containers with these for its arrays, and nothing else."""
        return self._filled([None] * len(self.fixed), arrays)

    def _filled(self, fixed: Sequence[Any], arrays: Iterable[Any]) -> PyTree:
        leaves = list(fixed)
        for place, array in zip(self.places, arrays, strict=True):
            leaves[place] = array
        return self.structure.unflatten(leaves)


def split_arrays(
    tree: PyTree, is_array: Callable[[Any], bool] | None = None
) -> tuple[list[Any], Rebuild]:
    """Part the arrays of a tree from its functions, flags and other settings.

    Args:
      tree: Any pytree, such as a module that keeps its activation beside its weights.
      is_array: Tells which leaves to split off; without it those of `traced_leaves`.

    Returns:
      The arrays in the order of the leaves, and what puts others in their places.

    Example:
      >>> arrays, rebuild = split_arrays({"act": "tanh", "weight": jnp.ones(2)})
      >>> rebuild(2 * array for array in arrays)
      {'act': 'tanh', 'weight': Array([2., 2.], dtype=float32)}
      >>> rebuild.alone(["slope"])
      {'act': None, 'weight': 'slope'}
    """
    leaves, structure = jax.tree.flatten(tree)
    flags = traced_leaves(tree) if is_array is None else map(is_array, leaves)
    pairs = list(zip(leaves, flags, strict=True))
    fixed = tuple(None if flag else leaf for leaf, flag in pairs)
    places = tuple(place for place, (_, flag) in enumerate(pairs) if flag)
    return [leaf for leaf, flag in pairs if flag], Rebuild(structure, fixed, places)


def at_least_single(values: Array) -> Array:
    """Widen half precision to single, for what is to be squared, multiplied or summed.

    Squares of float16 leave its range from 256 on and vanish below 2e-4; sums of bfloat16 keep
    three digits.

    Args:
      values: A floating or complex array.

    Returns:
      The values, in at least single precision.

    Example:
      >>> [at_least_single(jnp.zeros(2, dtype)).dtype.name for dtype in ("bfloat16", "complex64")]
      ['float32', 'complex64']
    """
    return values.astype(jnp.float32) if jnp.finfo(values.dtype).bits < 32 else values


def strong(tree: PyTree) -> PyTree:
    """Fix the types of the numbers in a tree, as the start of a loop needs them.

    The type of `jnp.asarray(1.0)` is weak: it turns strong after a step, and a loop refuses to
    carry what changes its type.

    Args:
      tree: Any tree.

    Returns:
      The tree with strong types; what is no number (keys, say) stays as it is.

    Example:
      >>> weak = jnp.asarray(1.0)
      >>> weak.weak_type, strong({"w": weak})["w"].weak_type
      (True, False)
    """

    def fix(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        is_number = jnp.issubdtype(leaf.dtype, jnp.number)
        return jax.lax.convert_element_type(leaf, leaf.dtype) if is_number else leaf

    return jax.tree.map(fix, tree)


def require_inexact(params: PyTree, caller: str) -> None:
    """Refuse a tree that has a leaf without a derivative (integers, booleans, keys).

    Args:
      params: The tree that an optimizer or a gradient is to work on.
      caller: The name of the function that asks; it opens the message.

    Raises:
      TypeError: If a leaf is neither floating nor complex; the message names its key path.

    Example:
      >>> require_inexact({"weight": 1.0}, "adam")
      >>> require_inexact({"count": 3}, "adam")
      Traceback (most recent call last):
      ...
      TypeError: adam needs floating or complex parameters, got int32 at 'count'.
    """
    for name, leaf in named_leaves(params):
        dtype = getattr(leaf, "dtype", None)
        dtype = jnp.result_type(leaf) if dtype is None else dtype
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"{caller} needs floating or complex parameters, got {dtype} at {name!r}."
            )


def require_same_structure(expected: PyTree, actual: PyTree, caller: str) -> None:
    """Refuse two trees that differ in their leaves' paths or shapes.

    Args:
      expected: The tree that sets the rule.
      actual: The tree to compare with it.
      caller: The name of the function that asks; it opens the message.

    Raises:
      ValueError: If a leaf is missing, superfluous or of another shape; the message names the
        key paths on both sides.

    Example:
      >>> require_same_structure({"a": 1.0}, {"b": 1.0}, "fit")
      Traceback (most recent call last):
      ...
      ValueError: fit needs trees with the same leaves, got 'a' on one side and 'b' on the other.
    """
    no_leaf: tuple[str, Any] = ("(no leaf)", ())
    for here, there in zip_longest(named_leaves(expected), named_leaves(actual), fillvalue=no_leaf):
        if here[0] != there[0]:
            raise ValueError(
                f"{caller} needs trees with the same leaves, "
                f"got {here[0]!r} on one side and {there[0]!r} on the other."
            )
        if jnp.shape(here[1]) != jnp.shape(there[1]):
            raise ValueError(
                f"{caller} needs leaves of the same shape, got {jnp.shape(here[1])} at {here[0]!r} "
                f"and {jnp.shape(there[1])} at {there[0]!r}."
            )
