"""What `grad` differentiates of its arguments, and what it refuses."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import counts, trees
from jaxopt_tut.types import PyTree


def positions_of(caller: str, argnums: Any) -> tuple[int, ...]:
    """Return positions of arguments as Python's integers, or refuse them."""
    one = counts.whole_number(argnums)
    if one is not None:
        return (one,)
    is_sequence = isinstance(argnums, Sequence) and not isinstance(argnums, str)
    found = [counts.whole_number(each) for each in argnums] if is_sequence else [None]
    positions = tuple(each for each in found if each is not None)
    if len(positions) < len(found):
        raise TypeError(
            f"{caller} needs argnums to be the position of an argument, or a tuple of positions, "
            f"got argnums={argnums!r}."
        )
    return positions


def chosen_of(caller: str, positions: tuple[int, ...], count: int) -> list[int]:
    """Return positions counted from the front, of arguments that there are."""
    for position in positions:
        if not -count <= position < count:
            raise ValueError(f"{caller} needs argnums below the {count} arguments, got {position}.")
    return [position % count for position in positions]


def _fixed_leaves(primal: PyTree) -> list[bool]:
    """Tell the leaves that are no numbers, and the settings of a module, from the others.

    Python's numbers that are attributes are settings (the rate of equinox's dropout) where the
    same tree holds a function, a string or a flag, so that it is more than a tree of parameters.
    """
    numbers = jax.Array, np.ndarray, np.generic, bool, int, float, complex
    paths = jax.tree_util.tree_leaves_with_path(primal)
    attribute = [bool(path) and isinstance(path[-1], jax.tree_util.GetAttrKey) for path, _ in paths]
    alien = [
        not (isinstance(leaf, numbers) or hasattr(leaf, "__jax_array__"))
        or (named and isinstance(leaf, bool | int))
        for (_, leaf), named in zip(paths, attribute, strict=True)
    ]
    python = bool, int, float, complex
    return [
        strange or (any(alien) and named and isinstance(leaf, python))
        for (_, leaf), named, strange in zip(paths, attribute, alien, strict=True)
    ]


def split_fixed(primal: PyTree) -> tuple[list[Any], Callable]:
    """Take the leaves to differentiate out of a tree; the function puts them, or slopes, back."""
    paths, tree = jax.tree_util.tree_flatten_with_path(primal)
    fixed = _fixed_leaves(primal)

    def join(leaves: Sequence[Any], with_fixed: bool) -> PyTree:
        fresh = iter(leaves)
        kept = (leaf if with_fixed else None for _, leaf in paths)
        return tree.unflatten(
            old if held else next(fresh) for old, held in zip(kept, fixed, strict=True)
        )

    return [leaf for (_, leaf), held in zip(paths, fixed, strict=True) if not held], join


def check_input(
    caller: str, primal: PyTree, position: int, holomorphic: bool, allow_int: bool
) -> None:
    """Refuse an argument without a number to differentiate by."""
    paths = jax.tree_util.tree_leaves_with_path(primal)
    fixed = _fixed_leaves(primal)
    named = [
        (trees.path_name(path), leaf)
        for (path, leaf), held in zip(paths, fixed, strict=True)
        if not held
    ]
    if paths and not named:
        path, leaf = paths[0]
        raise TypeError(
            f"{caller} needs floating or complex inputs, got {type(leaf).__name__} at argument "
            f"{position}, {trees.path_name(path)!r}; choose others by argnums."
        )
    for name, leaf in named:
        dtype = jnp.result_type(leaf)
        if holomorphic and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"{caller}(holomorphic=True) needs complex inputs, "
                f"got {dtype} at argument {position}, {name!r}."
            )
        if not allow_int and not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"{caller} needs floating or complex inputs, got {dtype} at argument {position}, "
                f"{name!r}; choose others by argnums or set allow_int=True."
            )


def check_output(caller: str, value: Any, holomorphic: bool) -> None:
    """Refuse what is no scalar with a derivative."""
    if not hasattr(value, "shape") or value.shape != ():
        shapes = jax.tree.map(np.shape, value)
        raise TypeError(f"{caller} needs a function with a scalar output, got shape {shapes}.")
    wanted = jnp.complexfloating if holomorphic else jnp.floating
    if not jnp.issubdtype(value.dtype, wanted):
        kind = "complex" if holomorphic else "real floating"
        raise TypeError(f"{caller} needs a {kind} output, got {value.dtype}.")
