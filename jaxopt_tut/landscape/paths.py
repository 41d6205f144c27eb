"""Paths between two models, and the loss along them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import Block, brief, number
from jaxopt_tut.hyperparameters import require_real
from jaxopt_tut.landscape.points import Statistics, at_least_two, loss_at_points
from jaxopt_tut.landscape.rows import split_point
from jaxopt_tut.landscape.slices import Coords, axis_of
from jaxopt_tut.landscape.stateful import open_stateful
from jaxopt_tut.trees import require_same_structure
from jaxopt_tut.types import LossFn, Number, Params, PRNGKey, PyTree

Places = TypeAliasType("Places", Coords | None)
"""Numbers from 0, the start of a path, to 1, its end; None for evenly spaced ones."""

AnyPath = TypeAliasType("AnyPath", "Path | Callable[[Any], PyTree]")
"""A `Path`, or any function from $t$ to parameters or a model."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Path(Block):
    """A curve in parameter space: called with $t$ it returns the parameters, or the model, there.

    Attributes:
      points: Its ends, and between them the points that bend it.
    """

    points: tuple[PyTree, ...]

    def __call__(self, t: Number) -> PyTree:
        """Return the point at t; what a model carries is that of the start.

        Args:
          t: A real number, also beyond 0 and 1; several points are `jax.vmap(path)(t)`.

        Returns:
          Parameters, or a model.

        Raises:
          TypeError: If `t` is no real number.
          ValueError: If it has axes.
        """
        require_real("Path", t=t)
        trained, build = split_point("Path", self.points[0])
        rest = [split_point("Path", point)[0] for point in self.points[1:]]
        t = jnp.asarray(t)
        t = t if jnp.issubdtype(t.dtype, jnp.floating) else t.astype(jnp.float32)
        return build(bernstein((trained, *rest), t[None]))

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        return "Path", [("points", str(len(self.points)))]


def bernstein(points: tuple[Params, ...], t: Float[Array, "1"]) -> Params:
    r"""Return $(1-t) a + t b$ of two points, $(1-t)^2 a + 2 t (1-t) c + t^2 b$ of three."""
    (t,) = t
    weights = [1 - t, t] if len(points) == 2 else [(1 - t) ** 2, 2 * t * (1 - t), t**2]

    def at(*leaves: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        dtype = jnp.finfo(leaves[0].dtype).dtype
        return sum(
            (weight.astype(dtype) * leaf for weight, leaf in zip(weights, leaves, strict=True)),
            start=jnp.zeros_like(leaves[0]),
        )

    return jax.tree.map(at, *points)


def linear_path(a: PyTree, b: PyTree) -> Path:
    r"""Connect two points by a straight line.

    $$(1 - t)\, a + t\, b, \qquad 0 \le t \le 1$$

    Args:
      a: Parameters or a model, where $t = 0$.
      b: Another of the same kind, where $t = 1$.

    Returns:
      The line: a pytree, called with one $t$; of several, `jax.vmap(path)(t)`. Of models the
      trained arrays are moved; the rest is that of `a`.

    Raises:
      TypeError: If a leaf is neither floating nor complex.
      ValueError: If the trees differ; the message names the key path.

    Example:
      >>> path = linear_path({"w": jnp.array([0.0, 4.0])}, {"w": jnp.array([2.0, 0.0])})
      >>> print(path(0.25)["w"])
      [0.5 3. ]
    """
    return _connect("linear_path", a, b)


def bezier_path(a: PyTree, control: PyTree, b: PyTree) -> Path:
    r"""Connect two points by a quadratic Bezier curve, which a third one bends.

    $$(1 - t)^2\, a + 2 t (1 - t)\, c + t^2\, b, \qquad 0 \le t \le 1$$

    It leaves $a$ towards $c$ and comes to $b$ from there, without touching it. `fit_bezier` trains
    $c$.

    Args:
      a: Parameters or a model, where $t = 0$.
      control: Another of the same kind, $c$.
      b: A third, where $t = 1$.

    Returns:
      The curve, as `linear_path`.

    Raises:
      TypeError: If a leaf is neither floating nor complex.
      ValueError: If the trees differ; the message names the key path.

    Example:
      >>> path = bezier_path(jnp.array([0.0, 0.0]), jnp.array([1.0, 2.0]), jnp.array([2.0, 0.0]))
      >>> print(path(0.5))
      [1. 1.]

    References:
      Garipov, Izmailov, Podoprikhin, Vetrov, Wilson (2018), "Loss surfaces, mode connectivity, and
      fast ensembling of DNNs", section 3.3. https://arxiv.org/abs/1802.10026
    """
    return _connect("bezier_path", a, control, b)


def _connect(caller: str, *points: PyTree) -> Path:
    first, _ = split_point(caller, points[0])
    for point in points[1:]:
        require_same_structure(first, split_point(caller, point)[0], caller)
    return Path(points)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class PathLoss(Block):
    """A loss along a path.

    Attributes:
      t: The places on the path.
      loss: The loss there.
      metrics: What the loss returns beside it.
      barrier: How far the loss rises, between the ends, above the line between its values there;
        at least 0, NaN where the loss is.
      statistics: What running averages were: `"reestimated"`, `"frozen"`, `"batch"`; None for a
        model without.
    """

    t: Float[Array, "..."]
    loss: Float[Array, "..."]
    metrics: dict[str, Float[Array, "..."]]
    barrier: Float[Array, "..."]
    statistics: str | None = field(default=None, metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("t", brief(self.t)), ("loss", brief(self.loss))]
        rows += [(name, brief(value)) for name, value in self.metrics.items()]
        return "PathLoss", [
            *rows,
            ("barrier", number(self.barrier)),
            ("statistics", str(self.statistics)),
        ]


def path_loss(
    loss_fn: LossFn,
    path: AnyPath,
    *batches: Any,
    coords: Places = None,
    num_points: int = 25,
    key: PRNGKey | None = None,
    model_state: PyTree = None,
    statistics: Statistics = None,
    training_loss: LossFn | None = None,
    batch_size: int | None = None,
    points_at_once: int | None = None,
) -> PathLoss:
    r"""Evaluate a loss along a path, and how high the barrier on it is.

    $$\ell(t) = f(w(t)), \qquad
    \mathrm{barrier} = \max_t\, \ell(t) - \big((1 - t)\, \ell(0) + t\, \ell(1)\big) \ge 0$$

    Works and costs as `slice_1d` at so many points; so are running averages treated, such as those
    of BatchNorm, which else show barriers where there are none. The maximum is over the ends and
    those of the points that lie between them: places below 0 or above 1 are evaluated, but have no
    part in the barrier.

    Args:
      loss_fn: The loss, in any form that `fit` takes, without batches of the parameters alone; a
        mean over examples. What it returns beside, `(loss, metrics)` or `(loss, Aux(metrics))`, is
        in the result.
      path: What `linear_path`, `bezier_path` or `fit_bezier` returned; or any function from $t$ to
        parameters or a model, which is a program of its own.
      *batches: The data: arrays, a `Dataset`, several batches, weighted by their examples, or an
        iterable on the host.
      coords: The places $t$, also beyond 0 and 1; the ends are evaluated beside them.
      num_points: How many places from 0 to 1, if these are not given.
      key: For a loss that draws; each point has the same draws.
      model_state: The state, if it is no part of the model.
      statistics: What becomes of running averages: `"reestimated"` at each point by default,
        `"frozen"`, `"batch"`; see `slice_1d`.
      training_loss: The loss as in training, if it is not `loss_fn` in another mode.
      batch_size: How many examples go through the model at once; None for all of a batch.
      points_at_once: How many points do.

    Returns:
      The losses, the metrics and the barrier.

    Raises:
      ValueError: If `num_points` is below 2, `coords` has not one axis, or as `slice_1d`.
      TypeError: If the path or the loss is no function, or as `slice_1d`.

    Example:
      >>> two_wells = lambda w, batch: (w[0] ** 2 - 1) ** 2 + w[1] ** 2
      >>> ends = jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0])
      >>> along = path_loss(two_wells, linear_path(*ends), coords=[0.25, 0.5])
      >>> print(along.loss, along.barrier)
      [0.5625 1.    ] 1.0

    References:
      Frankle, Dziugaite, Roy, Carbin (2020), "Linear mode connectivity and the lottery ticket
      hypothesis", section 2, with the line between both ends for their mean, as Entezari et al.
      (2022). https://arxiv.org/abs/1912.05671
    """
    caller = "path_loss"
    if not callable(path):
        raise TypeError(f"{caller} needs a path, a function of t, got {type(path).__name__}.")
    if coords is None:
        coords = np.linspace(0, 1, at_least_two(caller, num_points))
    t = axis_of(caller, coords)
    ends = jnp.array([0, 1], t.dtype)
    places = jnp.concatenate([ends, t])
    if isinstance(path, Path):
        start, place = path.points[0], bernstein
        span = tuple(split_point(caller, point)[0] for point in path.points)
    else:
        start, place, span = path(ends[0]), Placed(path), ()
    found = loss_at_points(
        caller,
        loss_fn,
        open_stateful(caller, loss_fn, start, key=key, model_state=model_state),
        place,
        span,
        places[:, None],
        batches,
        key=key,
        statistics=statistics,
        training_loss=training_loss,
        batch_size=batch_size,
        points_at_once=points_at_once,
    )
    first, last = found.loss[:2]
    at = places.astype(found.loss.dtype)
    above = found.loss - ((1 - at) * first + at * last)
    above = jnp.where((at < 0) | (at > 1), 0, above)  # beyond the ends there is no line
    return PathLoss(
        t,
        found.loss[2:],
        {name: values[2:] for name, values in found.metrics.items()},
        jnp.max(above, initial=0),
        found.statistics,
    )


@dataclass(frozen=True)
class Placed:
    """A user's path as a place; equal where the function is the same."""

    path: Callable[[Any], PyTree]

    def __call__(self, _: tuple[()], t: Float[Array, "1"]) -> Params:
        """Return the trained arrays at t."""
        return split_point("path_loss", self.path(t[0]))[0]
