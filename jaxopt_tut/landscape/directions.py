"""Directions in the space of parameters, and how long they are in each unit of a network."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact
from typing_extensions import TypeAliasType

from jaxopt_tut.counts import whole_number
from jaxopt_tut.keys import require_key
from jaxopt_tut.splitting import is_model, library_of, split_model
from jaxopt_tut.trees import (
    at_least_single,
    matching_names,
    named_leaves,
    path_name,
    require_inexact,
    require_same_structure,
)
from jaxopt_tut.types import Params, PRNGKey, PyTree
from jaxopt_tut.vectors import ravel, safe_ratio, safe_root

UnitAxis = TypeAliasType(
    "UnitAxis", int | tuple[int, ...] | Mapping[str, int | tuple[int, ...]] | None
)
"""An axis or several, for all leaves or by patterns of names; None for that of the library."""

Normalize = TypeAliasType("Normalize", Literal["filter", "layer"] | None)
"""What a direction is as long as the parameters in: each filter, each layer, or nothing."""

_VECTORS = ("bias", "scale")
"""Names of what is no kernel although it may have two axes: heads, pixels, stacked layers."""


def random_directions(
    key: PRNGKey,
    params: PyTree,
    count: int,
    *,
    normalize: Normalize = "filter",
    biases: bool = False,
    unit_axis: UnitAxis = None,
) -> list[PyTree]:
    r"""Draw Gaussian directions, as long in every filter as the parameters are.

    $$d_{ij} \leftarrow \frac{d_{ij}}{\|d_{ij}\|} \|\theta_{ij}\|, \qquad d \sim N(0, I),$$

    with i the layers and j their output units. Two of them are almost orthogonal in many
    dimensions. Costs a few copies of the parameters.

    Args:
      key: What to draw with.
      params: The parameters, or a model, whose trained arrays they are then.
      count: How many directions, at least 1.
      normalize: `"filter"` as above, see `filter_normalize`; `"layer"` with i alone; None for
        the Gaussian numbers as they are, biases included.
      biases: Whether biases and the scales of norms move, see `filter_normalize`.
      unit_axis: The axes of the output units, see `filter_normalize`.

    Returns:
      The directions, trees of the trained arrays.

    Raises:
      ValueError: If `count` is below 1, or `normalize` unknown.
      TypeError: If `count` is no whole number, `key` not one key, or a parameter has no derivative.

    Example:
      >>> params = {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]]), "bias": jnp.ones(2)}
      >>> (one,) = random_directions(jax.random.key(0), params, 1)
      >>> print(jnp.linalg.norm(one["kernel"], axis=0).round(5), one["bias"])
      [5. 2.] [0. 0.]

    References:
      Li, Xu, Taylor, Studer and Goldstein (2018), Visualizing the loss landscape of neural nets,
      section 4, https://arxiv.org/abs/1712.09913.
    """
    caller = "random_directions"
    require_key(caller, key)
    number = whole_number(count)
    if number is None:
        raise TypeError(f"{caller} needs a whole number as count, got count={count!r}.")
    if number < 1:
        raise ValueError(f"{caller} needs count >= 1, got count={count}.")
    if normalize not in ("filter", "layer", None):
        raise ValueError(
            f"{caller} needs normalize='filter', 'layer' or None, got normalize={normalize!r}."
        )
    trained = trained_arrays(caller, params)
    directions = [_gaussian(one, trained) for one in jax.random.split(key, number)]
    if normalize is None:
        return directions
    is_whole = normalize == "layer"
    return [_normalized(caller, one, trained, biases, unit_axis, is_whole) for one in directions]


def filter_normalize(
    direction: PyTree, params: PyTree, *, biases: bool = False, unit_axis: UnitAxis = None
) -> PyTree:
    r"""Make a direction as long as the parameters in each filter: what a unit takes in.

    $$d_{ij} \leftarrow \frac{d_{ij}}{\|d_{ij}\|} \|\theta_{ij}\|$$

    with i the layers and j their output units. A network of ReLU layers computes the same with one
    layer ten times as large and the next a tenth; along a direction that is normalised so its loss
    is the same, too. Where both norms are 0, or that of the direction, the unit does not move.

    Args:
      direction: A tree like the parameters, a model of the same kind, or a flat vector.
      params: The parameters, or a model, whose trained arrays they are then.
      biases: Whether biases and the scales of norms move, each as long as it is as a whole; by
        default they stay. They are the leaves of fewer than two axes, and those that are named
        `bias` or `scale`.
      unit_axis: The axes that count the output units, if they are not the last one, as in kernels
        of flax, and the first one in modules of equinox: for all leaves, or by patterns of names,
        as `{"*/qkv/kernel": (-2, -1)}`.

    Returns:
      The direction, a tree of the trained arrays.

    Raises:
      ValueError: If the trees differ, a pattern has no leaf, or a leaf no such axis.
      TypeError: If a parameter has no derivative.

    Example:
      >>> params = {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]]), "bias": jnp.ones(2)}
      >>> print(filter_normalize({"kernel": jnp.eye(2), "bias": jnp.ones(2)}, params)["kernel"])
      [[5. 0.]
       [0. 2.]]

    References:
      Li, Xu, Taylor, Studer and Goldstein (2018), Visualizing the loss landscape of neural nets,
      section 4, https://arxiv.org/abs/1712.09913.
    """
    caller = "filter_normalize"
    trained = trained_arrays(caller, params)
    direction = direction_like(caller, direction, trained)
    return _normalized(caller, direction, trained, biases, unit_axis, False)


def trained_arrays(caller: str, params: PyTree) -> Params:
    """Return the trained arrays of a model; of any other tree all leaves."""
    trained = split_model(params, caller, hashed=False).trained if is_model(params) else params
    require_inexact(trained, caller)
    return jax.tree.map(jnp.asarray, trained)


def direction_like(caller: str, direction: PyTree, trained: Params) -> Params:
    """Make a tree like the trained arrays of a direction, in their dtypes, or refuse it."""
    leaves = jax.tree.leaves(trained)
    vector, unravel = ravel(trained)
    is_one_leaf = len(leaves) == 1 and np.shape(direction) == leaves[0].shape
    if np.shape(direction) == vector.shape and hasattr(direction, "dtype") and not is_one_leaf:
        direction = unravel(jnp.asarray(direction))
    elif is_model(direction):
        direction = split_model(direction, caller, hashed=False).trained
    require_same_structure(trained, direction, caller)
    of = iter(jax.tree.leaves(direction))
    return jax.tree.map(lambda leaf: jnp.asarray(next(of)).astype(leaf.dtype), trained)


@jax.jit
def _gaussian(key: PRNGKey, trained: Params) -> Params:
    """Draw all numbers at once: a program with a draw for each leaf takes seconds to compile."""
    vector, unravel = ravel(trained)
    return unravel(jax.random.normal(key, vector.shape, vector.dtype))


def _normalized(
    caller: str,
    direction: Params,
    trained: Params,
    biases: bool,
    unit_axis: UnitAxis,
    is_whole: bool,
) -> Params:
    """Give a direction the lengths of the parameters, in each unit or in each leaf."""
    axes = _unit_axes(caller, trained, unit_axis)
    names = [name for name, _ in named_leaves(trained)]
    leaves, structure = jax.tree.flatten(trained)
    units: list[tuple[int, ...] | None] = []
    for name, leaf, axis in zip(names, leaves, axes, strict=True):
        is_vector = leaf.ndim < 2 or name.rsplit("/", 1)[-1] in _VECTORS
        if not is_vector and any(not -leaf.ndim <= one < leaf.ndim for one in axis):
            raise ValueError(
                f"{caller} needs axes of the leaf as unit_axis, got {axis} for shape "
                f"{leaf.shape} at {name!r}."
            )
        units.append((() if is_whole or is_vector else axis) if biases or not is_vector else None)
    scaled = _scaled(tuple(jax.tree.leaves(direction)), tuple(leaves), units=tuple(units))
    return structure.unflatten(scaled)


# compiled: a dozen operations on each leaf, each of them a program of its own otherwise
@partial(jax.jit, static_argnames="units")
def _scaled(
    direction: tuple[Array, ...],
    leaves: tuple[Array, ...],
    *,
    units: tuple[tuple[int, ...] | None, ...],
) -> list[Array]:
    """Scale what belongs to each unit; where there is None nothing moves."""
    return [
        jnp.zeros_like(leaf) if axes is None else _scaled_leaf(one, leaf, axes)
        for one, leaf, axes in zip(direction, leaves, units, strict=True)
    ]


def _scaled_leaf(
    direction: Inexact[Array, "..."], leaf: Inexact[Array, "..."], unit_axis: tuple[int, ...]
) -> Inexact[Array, "..."]:
    units = {axis % leaf.ndim for axis in unit_axis}
    others = tuple(axis for axis in range(leaf.ndim) if axis not in units)
    direction, size = _with_size(direction, others)
    # the quotient first: the norms may differ by more than a number can hold
    unit = safe_ratio(direction, size.astype(direction.dtype))
    wide, length = _with_size(leaf, others)
    return (unit * length.astype(wide.dtype)).astype(leaf.dtype)


def _with_size(
    values: Inexact[Array, "..."], axes: tuple[int, ...]
) -> tuple[Inexact[Array, "..."], Inexact[Array, "..."]]:
    """Return values, in single precision at least, and their norms along axes."""
    values = at_least_single(values)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(values), axis=axes, keepdims=True, initial=0))
    largest = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = jnp.square(jnp.abs(values / largest.astype(values.dtype)))
    return values, largest * safe_root(jnp.sum(squares, axis=axes, keepdims=True))


def _unit_axes(caller: str, trained: Params, unit_axis: UnitAxis) -> list[tuple[int, ...]]:
    """Say for each leaf which axes count output units."""
    is_module = lambda part: library_of(part) == "equinox"
    parts = jax.tree_util.tree_leaves_with_path(trained, is_leaf=is_module)
    found: dict[str, tuple[int, ...]] = {}
    for path, part in parts:
        default = (0,) if is_module(part) else (-1,)
        for inner, _ in jax.tree_util.tree_leaves_with_path(part):
            found[path_name((*path, *inner))] = default
    if isinstance(unit_axis, Mapping):
        for pattern, axis in unit_axis.items():
            names = matching_names(pattern, found)
            if not names:
                raise ValueError(
                    f"{caller} needs patterns in unit_axis that match a leaf, got {pattern!r} for "
                    f"{sorted(found)}."
                )
            found |= dict.fromkeys(names, _as_axes(caller, axis))
    elif unit_axis is not None:
        found = dict.fromkeys(found, _as_axes(caller, unit_axis))
    return list(found.values())


def _as_axes(caller: str, axis: Any) -> tuple[int, ...]:
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    numbers = [whole_number(one) for one in axes]
    if None in numbers:
        raise TypeError(f"{caller} needs whole numbers as unit_axis, got unit_axis={axis!r}.")
    return tuple(one for one in numbers if one is not None)
