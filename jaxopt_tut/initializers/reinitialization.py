"""New weights for any tree of parameters, chosen by the names of its leaves."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.trees import matching_names, path_name
from jaxopt_tut.types import Initializer, Params, PRNGKey


def reinitialize(key: PRNGKey, params: Params, rules: Mapping[str, Initializer]) -> Params:
    r"""Draw the leaves whose path matches a rule anew, and keep all others.

    $$w_p \gets \text{rule}(\text{fold\_in}(\text{key}, \text{crc32}(p)),\;
      \text{shape}(w_p),\; \text{dtype}(w_p)).$$

    For models whose own initializers can't be chosen. A leaf's name is its key path joined by
    slashes, `layers/0/kernel`; an nnx state says `kernel/value`, and the trailing `/value` may be
    left out. Every leaf has its own key, made of its name alone: it gets the same numbers when
    other leaves or other rules come and go. Weights of equinox are (out, in): build their rule with
    `in_axis=1, out_axis=0`.

    Args:
      key: The key to draw with.
      params: Any tree of arrays (or of `jax.ShapeDtypeStruct`): linen parameters, an nnx state, an
        equinox module, plain containers.
      rules: Initializers by pattern, as in the shell: `*` stands for any characters, slashes too,
        `?` for one, `[...]` for one of several. A pattern that is the name of a leaf means this
        leaf alone, whatever is in the name. The first pattern that matches a leaf rules it.

    Returns:
      The tree with the matched leaves replaced; structure, shapes and dtypes are those of `params`.

    Raises:
      ValueError: If a pattern matches no leaf (the message lists the paths there are), or an
        initializer refuses a leaf's shape.
      TypeError: If `rules` is no mapping from strings to initializers, a matched leaf is neither
        floating nor complex, or an initializer returns another shape or dtype.

    Example:
      >>> import jax
      >>> from jaxopt_tut.initializers import constant
      >>> params = {"layers": [{"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}]}
      >>> new = reinitialize(jax.random.key(0), params, {"*kernel": constant(3.0)})
      >>> new["layers"][0]["kernel"].tolist(), new["layers"][0]["bias"].tolist()
      ([[3.0, 3.0], [3.0, 3.0]], [0.0, 0.0])

    References:
      jax.random.fold_in, for keys that depend on a name.
    """
    if not isinstance(rules, Mapping):
        raise TypeError(f"reinitialize needs a mapping of rules, got {type(rules).__name__}.")
    for pattern, initializer in rules.items():
        if not isinstance(pattern, str) or not callable(initializer):
            raise TypeError(
                "reinitialize needs rules from a path pattern to an initializer, "
                f"got {pattern!r}: {initializer!r}."
            )
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [_name(path) for path, _ in leaves]
    ruled: dict[str, Initializer] = {}
    for pattern, rule in rules.items():
        found = _matching(pattern, names)
        if not found:
            raise ValueError(
                f"reinitialize needs patterns that match a leaf, got {pattern!r}; "
                f"the paths are {', '.join(map(repr, names)) or 'none'}."
            )
        ruled = {**dict.fromkeys(found, rule), **ruled}  # the first one wins
    drawn = [
        _draw(key, name, leaf, ruled[name]) if name in ruled else leaf
        for name, (_, leaf) in zip(names, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _name(path: tuple[Any, ...]) -> str:
    """Return the path's name, without the attribute that holds a flax variable's array."""
    if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return path_name(path)


def _matching(pattern: str, names: list[str]) -> set[str]:
    """Choose leaves by name, or by the name with flax's attribute behind it."""
    if pattern in names:
        return {pattern}
    full = {name + "/value": name for name in names} | {name: name for name in names}
    return {full[name] for name in matching_names(pattern, full)}


def _draw(key: PRNGKey, name: str, leaf: Any, rule: Initializer) -> Array:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        found = type(leaf).__name__ if dtype is None else dtype
        raise TypeError(f"reinitialize needs floating or complex leaves, got {found} at {name!r}.")
    leaf_key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    try:
        value = rule(leaf_key, leaf.shape, dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"reinitialize could not draw {name!r}: {error}") from error
    if jnp.shape(value) != leaf.shape or value.dtype != dtype:
        raise TypeError(
            f"reinitialize needs initializers that keep shape and dtype, got {value.dtype} "
            f"{jnp.shape(value)} for {dtype} {leaf.shape} at {name!r}."
        )
    return value
