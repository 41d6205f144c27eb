"""Points of parameter space, in the forms in which runs leave them, as rows of a matrix."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.landscape.trajectories import Trajectory
from jaxopt_tut.splitting import is_model, split_model
from jaxopt_tut.trees import named_leaves, require_inexact, require_same_structure
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import Vector, ravel

Rows = TypeAliasType("Rows", Float[Array, "points size"])
"""Points or directions, flat, one a row."""

Build = TypeAliasType("Build", Callable[[Params], PyTree])
"""Makes a point of the kind that came of trained arrays."""


class Points(NamedTuple):
    """Points, flat.

    Attributes:
      rows: One a row.
      like: The trained arrays of one of them.
      build: Makes of such arrays what a point is, say a model.
    """

    rows: Rows
    like: Params
    build: Build


def split_point(caller: str, point: PyTree) -> tuple[Params, Build]:
    """Return the trained arrays of a point, and what makes a point of others."""
    if not is_model(point):
        trained, build = point, lambda trained: trained
    else:
        parts = split_model(point, caller, hashed=False)
        trained, build = parts.trained, lambda one: parts.assembly.build(one, parts.carried)
    _require_arrays(caller, trained)
    require_inexact(trained, caller)
    if not jax.tree.leaves(trained):
        raise ValueError(f"{caller} needs parameters, got a tree without arrays.")
    return jax.tree.map(jnp.asarray, trained), build


def _require_arrays(caller: str, tree: PyTree) -> None:
    for name, leaf in named_leaves(tree):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            raise TypeError(f"{caller} needs arrays, got {type(leaf).__name__} at {name!r}.")


def flat_point(caller: str, point: PyTree, like: Params) -> Vector:
    """Lay a point out flat: a tree like `like`, a model of such arrays, or a flat vector."""
    flat, _ = ravel(like)
    if isinstance(point, jax.Array) and point.shape == flat.shape:
        return point.astype(flat.dtype)
    trained, _ = split_point(caller, point)
    require_same_structure(like, trained, caller)
    return ravel(trained)[0].astype(flat.dtype)


def read_trajectories(
    caller: str, trajectory: PyTree, like: PyTree = None
) -> tuple[dict[str, Rows], Params, Build]:
    """Read one trajectory, whose name is then `"path"`, or several by name."""
    if isinstance(trajectory, Mapping) and not trajectory:
        raise ValueError(f"{caller} needs at least one trajectory, got an empty mapping.")
    if _is_one(caller, trajectory, like):
        found = {"path": _read_points(caller, trajectory, like)}
    else:
        found = {name: _read_points(caller, one, like) for name, one in trajectory.items()}
    first = next(iter(found.values()))
    for name, points in found.items():
        require_same_structure(first.like, points.like, caller)
        if len(points.rows) < 2:
            raise ValueError(
                f"{caller} needs at least 2 points in a trajectory, got {len(points.rows)} in "
                f"{name!r}; where one point lies tells project(plane, params)."
            )
    return {name: points.rows for name, points in found.items()}, first.like, first.build


def _is_one(caller: str, trajectory: PyTree, like: PyTree) -> bool:
    """Tell one trajectory from several by name, see `pca_plane` on trees that can be read twice."""
    if not isinstance(trajectory, Mapping) or _is_stack_of(caller, trajectory, like):
        return True
    if isinstance(trajectory.get("params"), Mapping):
        return True  # variables of flax linen
    values = list(trajectory.values())
    if any(isinstance(one, Trajectory) or _is_list_of_points(one) for one in values):
        return False
    # each under its name, for messages
    read = [_arrays({name: one})[name] for name, one in trajectory.items()]
    return not _are_alike([jax.tree.map(lambda leaf: leaf[:1], one) for one in read])


def _is_stack_of(caller: str, tree: PyTree, like: PyTree) -> bool:
    """Tell whether the leaves are those of `like` with one more axis in front."""
    if like is None:
        return False
    trained, _ = split_point(caller, like)
    stacked = _arrays(tree)
    pairs = zip(jax.tree.leaves(stacked), jax.tree.leaves(trained), strict=False)
    return jax.tree.structure(stacked) == jax.tree.structure(trained) and all(
        leaf.shape[1:] == one.shape and leaf.ndim for leaf, one in pairs
    )


def _arrays(tree: PyTree) -> PyTree:
    """Return the trained arrays of a model, or a tree, with an axis each."""
    trained = split_model(tree, "pca_plane", hashed=False).trained if is_model(tree) else tree
    _require_arrays("pca_plane", trained)
    return jax.tree.map(jnp.atleast_1d, trained)


def _are_alike(trees: list[PyTree]) -> bool:
    forms = [
        (jax.tree.structure(one), [jnp.shape(x) for x in jax.tree.leaves(one)]) for one in trees
    ]
    return all(form == forms[0] for form in forms)


def _is_list_of_points(points: PyTree) -> bool:
    return (
        isinstance(points, list)
        and bool(points)
        and (any(map(is_model, points)) or _are_alike(points))
    )


def _read_points(caller: str, trajectory: PyTree, like: PyTree) -> Points:
    """Read one trajectory: a tree with a leading axis, or a list of points."""
    if isinstance(trajectory, Trajectory):
        trajectory = trajectory.points
    build: Build = lambda trained: trained
    if _is_list_of_points(trajectory) and not _is_stack_of(caller, trajectory, like):
        parts = [split_point(caller, point) for point in trajectory]
        build = parts[-1][1]
        for trained, _ in parts[1:]:
            require_same_structure(parts[0][0], trained, caller)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[one for one, _ in parts])
    else:
        stacked, build = split_point(caller, trajectory)
        _require_leading_axis(caller, stacked)
    first = jax.tree.map(lambda leaf: leaf[0], stacked)
    if like is not None:
        trained, build = split_point(caller, like)
        require_same_structure(trained, first, caller)
        # in the containers of `like`: those of a record may differ
        first = jax.tree.unflatten(jax.tree.structure(trained), jax.tree.leaves(first))
    return Points(jax.vmap(lambda point: ravel(point)[0])(stacked), first, build)


def _require_leading_axis(caller: str, stacked: Params) -> None:
    leaves = named_leaves(stacked)
    for name, leaf in leaves:
        if not leaf.ndim:
            raise ValueError(
                f"{caller} needs leaves with a leading axis of points, got one without axes at "
                f"{name!r}."
            )
        if len(leaf) != len(leaves[0][1]):
            raise ValueError(
                f"{caller} needs as many points in every leaf, got {len(leaves[0][1])} at "
                f"{leaves[0][0]!r} and {len(leaf)} at {name!r}."
            )
