"""Bounds as users write them: numbers or trees, `None` or infinite where there is none."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool

from jaxopt_tut.optimizers.objective import part_of
from jaxopt_tut.trees import named_leaves, require_same_structure
from jaxopt_tut.types import PyTree

Bounds = tuple[PyTree, PyTree]
"""`(lower, upper)`: each a number, `None`, or a tree of them or of arrays like the parameters."""


def spread_bounds(caller: str, bounds: Bounds, params: PyTree) -> Bounds:
    """Give each leaf its bounds, in its shape and dtype; refuse static ones of an empty box."""
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        raise TypeError(f"{caller} needs bounds=(lower, upper), got {bounds!r}.")
    for name, leaf in named_leaves(params):
        if jnp.iscomplexobj(leaf):
            raise TypeError(
                f"{caller} needs real parameters under bounds, got complex ones at {name!r}."
            )
    low, high = (
        _spread(caller, bound, params, default)
        for bound, default in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    for (name, a), b in zip(named_leaves(low), jax.tree.leaves(high), strict=True):
        require_order(caller, f" at {name!r}", a, b)
    return jax.tree.map(_like, low, params), jax.tree.map(_like, high, params)


def _like(bound: Any, x: Any) -> Any:
    """Give a bound the shape and dtype of its parameter, without a call of the device if it can."""
    dtype, shape = jnp.result_type(x), jnp.shape(x)
    if not isinstance(bound, jax.Array):
        return np.broadcast_to(np.asarray(bound).astype(dtype), shape)
    if bound.dtype == dtype and bound.shape == shape:
        return bound
    return jnp.broadcast_to(bound.astype(dtype), shape)


def _spread(caller: str, bound: PyTree, params: PyTree, default: float) -> PyTree:
    """Repeat a number for each leaf; in a tree put the default where there is no bound."""
    if _has_masks(params):
        # `optax.masked` and `optax.partition` show their part of the parameters, and all bounds
        with contextlib.suppress(ValueError):
            bound = part_of(bound, params)
    if bound is None or is_number(bound):
        return jax.tree.map(lambda _: default if bound is None else bound, params)
    if isinstance(bound, list) and not isinstance(params, list):
        bound = np.asarray(bound, float)  # as SciPy's users write them
    fill = lambda b, x: jax.tree.map(lambda _: default, x) if b is None else b
    try:
        filled = jax.tree.map(fill, bound, params, is_leaf=lambda b: b is None)
    except (TypeError, ValueError):
        filled = bound  # another structure, which the last line refuses
    same_leaves = jax.tree.structure(filled) == jax.tree.structure(params)
    widen = lambda b, x: jnp.zeros(jnp.shape(x)) if is_number(b) else b
    shown = jax.tree.map(widen, filled, params) if same_leaves else filled
    require_same_structure(params, shown, caller)
    return filled


def _has_masks(params: PyTree) -> bool:
    is_mask = lambda node: isinstance(node, optax.MaskedNode)
    return any(map(is_mask, jax.tree.leaves(params, is_leaf=is_mask)))


def is_number(bound: Any) -> bool:
    """Tell whether a bound is one number for all."""
    kinds = int | float | complex | np.number | np.ndarray | jax.Array
    return isinstance(bound, kinds) and jnp.ndim(bound) == 0


def require_order(caller: str, place: str, lower: Any, upper: Any) -> None:
    """Refuse complex bounds, and static ones with nothing between them."""
    for bound in (lower, upper):
        if jnp.iscomplexobj(bound):
            raise TypeError(f"{caller} needs real bounds, got a complex one{place}.")
    if isinstance(lower, jax.Array) or isinstance(upper, jax.Array):
        return
    low, high = np.broadcast_arrays(lower, upper)
    bad = ~(low <= high)
    if np.any(bad):
        raise ValueError(
            f"{caller} needs lower <= upper, got lower={low[bad][0]} and "
            f"upper={high[bad][0]}{place}."
        )


def into(bounds: Bounds, params: PyTree) -> PyTree:
    """Move a point into the box, and onto a bound from which only rounding parts it."""

    def leaf(x: Array, a: ArrayLike, b: ArrayLike) -> Array:
        eps = 4 * float(jnp.finfo(x.dtype).eps)
        near = lambda bound: jnp.isfinite(bound) & (jnp.abs(x - bound) <= eps * jnp.abs(bound))
        x = jnp.where(near(a), a, jnp.where(near(b), b, x))
        return jnp.clip(x, a, b)

    return jax.tree.map(leaf, params, *bounds)


def active(bounds: Bounds, params: PyTree) -> PyTree:
    """Say which bounds hold: -1 at the lower, 1 at the upper one, 0 between, 2 where both do."""
    low, high = bounds

    def leaf(x: Array, a: ArrayLike, b: ArrayLike) -> Array:
        return jnp.where(a == b, 2, (x >= b).astype(jnp.int8) - (x <= a).astype(jnp.int8))

    return jax.tree.map(lambda *args: leaf(*args).astype(jnp.int8), params, low, high)


def is_empty(bounds: Bounds) -> Bool[Array, ""]:
    """Tell whether a lower bound is above an upper one, or is no number."""
    return ~everywhere(jnp.less_equal, *bounds)


def is_same(new: PyTree, old: PyTree) -> Bool[Array, ""]:
    """Tell whether two trees hold the same numbers."""
    return everywhere(jnp.equal, new, old)


def everywhere(
    compare: Callable[[Array, Array], Array], one: PyTree, other: PyTree
) -> Bool[Array, ""]:
    """Tell whether all pairs of numbers in two trees compare so."""
    found = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.all(compare(a, b)), one, other))
    return functools.reduce(jnp.logical_and, found, jnp.ones([], bool))
