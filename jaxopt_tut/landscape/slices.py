"""A loss along a line, and on a plane, through a point in the space of parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import Block, brief
from jaxopt_tut.landscape.directions import direction_like
from jaxopt_tut.landscape.points import Statistics, loss_at_points
from jaxopt_tut.landscape.stateful import open_stateful
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.types import LossFn, Params, PRNGKey, PyTree

Coords = TypeAliasType("Coords", Sequence[float | int] | np.ndarray | Array)
"""Places along a direction, in its lengths; 0 is the centre."""

CoordsPair = TypeAliasType("CoordsPair", tuple[Coords, Coords] | Sequence[Coords] | Coords)
"""Places along two directions."""

Directions = TypeAliasType("Directions", Sequence[PyTree] | Array)
"""Two directions."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Slice(Block):
    """A loss along one direction, or on the plane of two.

    Attributes:
      coords: The coordinates along each direction.
      loss: The loss, with an axis for each direction, in their order.
      metrics: What the loss returns beside it, likewise.
      statistics: What running averages were: `"reestimated"`, `"frozen"`, `"batch"`; None for a
        model without.
    """

    coords: tuple[Float[Array, "_"], ...]
    loss: Float[Array, "..."]
    metrics: dict[str, Float[Array, "..."]]
    statistics: str | None = field(default=None, metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("coords", brief(self.coords, only_shapes=True)), ("loss", brief(self.loss))]
        rows += [(name, brief(value)) for name, value in self.metrics.items()]
        return "Slice", [*rows, ("statistics", str(self.statistics))]


def slice_1d(
    loss_fn: LossFn,
    params: PyTree,
    direction: PyTree,
    *batches: Any,
    coords: Coords,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    statistics: Statistics = None,
    training_loss: LossFn | None = None,
    batch_size: int | None = None,
    points_at_once: int | None = None,
) -> Slice:
    r"""Evaluate a loss along a line.

    $$f(\theta + c_i\, d)$$

    One program for all centres, directions, coordinates and data of the same shapes: a call with
    others compiles nothing. It takes as many forward passes as there are points, twice as many
    where running averages are re-estimated, and the memory of a few of them.

    A model with running averages, such as BatchNorm's, normalises by what it saw at the centre.
    At other weights these averages are wrong, and the loss shows that and not the landscape. So
    they are `"reestimated"` at each point by default, see `reestimate_statistics`; `"frozen"`
    leaves them as they are; `"batch"` normalises each batch by itself, as training does. Modules of
    flax nnx and equinox are set to evaluation or training for it; losses of flax linen, and of
    functions of your own, come as two: `loss_fn` as in evaluation, `training_loss` as in training.

    Args:
      loss_fn: The loss, in any form that `fit` takes, without batches of the parameters alone; a
        mean over examples. What it returns beside, `(loss, metrics)` or `(loss, Aux(metrics))`, is
        in the result.
      params: The centre: parameters, or a model.
      direction: The direction: a tree like the parameters (of a model: like its trained arrays),
        a model of the same kind, or a flat vector. See `random_directions`.
      *batches: The data: arrays, a `Dataset`, several batches, weighted by their examples, or an
        iterable on the host.
      coords: The places $c_i$ along the direction.
      key: For a loss that draws; each point has the same draws.
      model_state: The state, if it is no part of the model.
      statistics: What becomes of running averages, see above.
      training_loss: The loss as in training, which returns `(loss, Aux(model_state=))`, if it is
        not `loss_fn` itself in another mode.
      batch_size: How many examples go through the model at once; None for all of a batch.
      points_at_once: How many points do; by default 1 for convolutions on CPU, else 8, on
        accelerators 32, and fewer of large networks.

    Returns:
      The losses and metrics.

    Raises:
      ValueError: If the direction is of another structure or of zeros, `coords` has not one axis
        or no number, `statistics` is unknown or there are none, or the loss does not read them.
      TypeError: If the loss cannot be called so, or what comes from the host is traced.

    Example:
      >>> bowl = lambda w, batch: jnp.sum(w["a"] ** 2)
      >>> line = slice_1d(bowl, {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([1.0, 0.0])},
      ...                 coords=[-1.0, 0.0, 2.0])
      >>> print(line.loss)
      [ 4.  5. 13.]

    References:
      Goodfellow, Vinyals and Saxe (2015), Qualitatively characterizing neural network
      optimization problems, https://arxiv.org/abs/1412.6544.
    """
    return _slice(
        "slice_1d",
        loss_fn,
        params,
        (direction,),
        batches,
        (coords,),
        key,
        model_state,
        statistics,
        training_loss,
        batch_size,
        points_at_once,
    )


def slice_2d(
    loss_fn: LossFn,
    params: PyTree,
    directions: Directions,
    *batches: Any,
    coords: CoordsPair,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    statistics: Statistics = None,
    training_loss: LossFn | None = None,
    batch_size: int | None = None,
    points_at_once: int | None = None,
) -> Slice:
    r"""Evaluate a loss on a plane.

    $$f(\theta + x_i\, d_1 + y_j\, d_2)$$

    Works and costs as `slice_1d` at so many points.

    Args:
      loss_fn: The loss, as for `slice_1d`.
      params: The centre: parameters, or a model.
      directions: Two directions, each as for `slice_1d`.
      *batches: The data.
      coords: The places $x_i$ along the first and $y_j$ along the second direction; one array
        without a pair serves both.
      key: For a loss that draws.
      model_state: The state, if it is no part of the model.
      statistics: What becomes of running averages: `"reestimated"`, `"frozen"`, `"batch"`.
      training_loss: The loss as in training, if it is not `loss_fn` in another mode.
      batch_size: How many examples go through the model at once.
      points_at_once: How many points do.

    Returns:
      The losses and metrics, with x along the first axis and y along the second.

    Raises:
      ValueError: If there are not two directions and two arrays of coordinates, or as `slice_1d`.
      TypeError: If the loss cannot be called so, or what comes from the host is traced.

    Example:
      >>> saddle = lambda w, batch: w[0] ** 2 - w[1]
      >>> plane = slice_2d(saddle, jnp.array([1.0, 2.0]), jnp.eye(2), coords=([0, 1], [0, 1, 3]))
      >>> print(plane.loss)
      [[-1. -2. -4.]
       [ 2.  1. -1.]]

    References:
      Li, Xu, Taylor, Studer and Goldstein (2018), Visualizing the loss landscape of neural nets,
      https://arxiv.org/abs/1712.09913.
    """
    if hasattr(coords, "__len__") and all(np.ndim(one) == 0 for one in coords):
        axis = cast(Coords, coords)
        coords = (axis, axis)
    for name, pair in (("directions", directions), ("coords", coords)):
        if not hasattr(pair, "__len__") or len(pair) != 2:
            found = f"{len(pair)}" if hasattr(pair, "__len__") else type(pair).__name__
            raise ValueError(f"slice_2d needs two {name}, got {found}.")
    return _slice(
        "slice_2d",
        loss_fn,
        params,
        tuple(directions),
        batches,
        tuple(coords),
        key,
        model_state,
        statistics,
        training_loss,
        batch_size,
        points_at_once,
    )


def _slice(
    caller: str,
    loss_fn: LossFn,
    params: PyTree,
    directions: tuple[PyTree, ...],
    batches: tuple[Any, ...],
    coords: tuple[Coords, ...],
    key: PRNGKey | None,
    model_state: PyTree,
    statistics: Statistics,
    training_loss: LossFn | None,
    batch_size: int | None,
    points_at_once: int | None,
) -> Slice:
    opened = open_stateful(caller, loss_fn, params, key=key, model_state=model_state)
    trees = tuple(_direction(caller, one, opened.trained) for one in directions)
    axes = tuple(axis_of(caller, one) for one in coords)
    with jax.numpy_dtype_promotion("standard"):
        grids = jnp.meshgrid(*axes, indexing="ij")
        points = jnp.stack([grid.ravel() for grid in grids], axis=1)
    found = loss_at_points(
        caller,
        loss_fn,
        opened,
        _affine,
        (opened.trained, trees),
        points,
        batches,
        key=key,
        statistics=statistics,
        training_loss=training_loss,
        batch_size=batch_size,
        points_at_once=points_at_once,
    )
    shaped = lambda leaf: leaf.reshape([len(axis) for axis in axes])
    return Slice(
        axes,
        shaped(found.loss),
        {name: shaped(values) for name, values in found.metrics.items()},
        found.statistics,
    )


def _affine(span: tuple[Params, tuple[Params, ...]], coord: Float[Array, "dim"]) -> Params:
    """Return the centre, and so much of each direction."""
    centre, directions = span

    def moved(leaf: Array, *along: Array) -> Array:
        for step, one in zip(coord, along, strict=True):
            leaf = leaf + step.astype(leaf.dtype) * one
        return leaf

    return jax.tree.map(moved, centre, *directions)


def _direction(caller: str, direction: PyTree, trained: Params) -> Params:
    one = direction_like(caller, direction, trained)
    leaves = jax.tree.leaves(one)
    if not any(map(is_traced, leaves)) and not any(np.any(np.asarray(leaf)) for leaf in leaves):
        raise ValueError(f"{caller} needs a direction that leads somewhere, got one of zeros.")
    return one


def axis_of(caller: str, coords: Coords) -> Float[Array, "_"]:
    """Return the coordinates in the precision of numbers."""
    axis = coords if isinstance(coords, jax.Array) else np.asarray(coords)
    if axis.ndim != 1 or not axis.size or axis.dtype.kind not in "fiu":
        raise ValueError(
            f"{caller} needs coords that are real numbers along one axis, at least one, "
            f"got {axis.dtype}{list(axis.shape)}."
        )
    kept = axis if axis.dtype.kind == "f" else axis.astype(np.float32)
    return jnp.asarray(kept)
