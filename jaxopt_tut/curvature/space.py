"""Trees of parameters as real vectors, in compiled pieces, and complex leaves as pairs."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.splitting import is_model, split_model
from jaxopt_tut.trees import named_leaves, require_inexact, require_same_structure
from jaxopt_tut.types import DTypeLike, PyTree
from jaxopt_tut.vectors import common_dtype, ravel

Flat = TypeAliasType("Flat", Float[Array, "size"])
"""A vector: the leaves of a tree end to end, as `vectors.ravel` lays them."""

Rows = TypeAliasType("Rows", Float[Array, "k size"])
"""Vectors as rows."""


def size_of(tree: PyTree) -> int:
    """Return the length of the vector of a tree."""
    return sum(leaf_sizes(tree))


def leaf_sizes(tree: PyTree) -> list[int]:
    """Return how long each leaf is in the vector of a tree."""
    return [
        math.prod(np.shape(leaf)) * (2 if jnp.iscomplexobj(leaf) else 1)
        for leaf in jax.tree.leaves(tree)
    ]


def dtype_of(tree: PyTree) -> DTypeLike:
    """Return the precision of the vector of a tree."""
    return common_dtype(jax.tree.leaves(tree))


@jax.jit
def raveled(tree: PyTree) -> Flat:
    """Lay the leaves of a tree end to end."""
    return ravel(tree)[0]


@jax.jit
def unraveled(like: PyTree, vector: Flat) -> PyTree:
    """Make a tree of a vector; of `like` only the shapes are used."""
    return ravel(like)[1](vector)


def real_parts(tree: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Make pairs of complex leaves, so that derivatives are those of real functions.

    The vector of the result is that of the tree.
    """
    leaves, structure = jax.tree.flatten(tree)
    flags = [jnp.iscomplexobj(leaf) for leaf in leaves]
    parts = [
        (jnp.real(leaf), jnp.imag(leaf)) if flag else leaf
        for leaf, flag in zip(leaves, flags, strict=True)
    ]

    def joined(parts: PyTree) -> PyTree:
        return structure.unflatten(
            jax.lax.complex(*part) if flag else part
            for part, flag in zip(parts, flags, strict=True)
        )

    return parts, joined


def flat_vector(caller: str, like: PyTree, vector: PyTree) -> tuple[Flat, bool]:
    """Read a vector: flat, or a tree like the parameters, or a model; tell whether it was flat."""
    size, dtype = size_of(like), dtype_of(like)
    is_array = isinstance(vector, jax.Array | np.ndarray)
    if is_array and vector.shape != (size,) and not jax.tree_util.all_leaves([like]):
        raise ValueError(
            f"{caller} needs a vector of length {size}, or a tree like the parameters, got shape "
            f"{vector.shape}."
        )
    if is_array and vector.shape == (size,):
        if not jnp.issubdtype(vector.dtype, jnp.floating):
            raise TypeError(f"{caller} needs a vector of real numbers, got {vector.dtype}.")
        return jnp.asarray(vector).astype(dtype), True
    if is_model(vector) and jax.tree.structure(vector) != jax.tree.structure(like):
        vector = split_model(vector, caller, hashed=False).trained
    require_same_structure(like, vector, caller)
    require_inexact(vector, caller)
    for (name, leaf), (_, part) in zip(named_leaves(like), named_leaves(vector), strict=True):
        if jnp.iscomplexobj(part) and not jnp.iscomplexobj(leaf):
            raise TypeError(
                f"{caller} needs a tree of real numbers where parameters are, got "
                f"{jnp.result_type(part)} at {name!r}."
            )
    return raveled(_cast(vector, like)).astype(dtype), False


def _cast(vector: PyTree, like: PyTree) -> PyTree:
    """Make leaves complex where those of the parameters are."""
    is_complex: Callable[[Any, Any], bool] = lambda part, leaf: (
        jnp.iscomplexobj(leaf) and not jnp.iscomplexobj(part)
    )
    leaves = [
        jnp.asarray(part).astype(jnp.result_type(leaf)) if is_complex(part, leaf) else part
        for part, leaf in zip(jax.tree.leaves(vector), jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
