"""Paths of optimizers on a plane of parameter space, still and moving; the loss between models."""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from typing_extensions import TypeAliasType

from jaxopt_tut.landscape import PathLoss, PcaPlane, PlanePath, Slice
from jaxopt_tut.plotting.numbers import set_scale
from jaxopt_tut.plotting.slices import plot_slice
from jaxopt_tut.plotting.style import (
    COLORS,
    MARKERS,
    axes_or_new,
    legend_below,
    look,
    new_figure,
    tidy,
)

PathLosses = TypeAliasType("PathLosses", PathLoss | Mapping[str, PathLoss])
"""Losses along a path, or along several by name."""

_COLORMAP = "plasma"
"""Of distances; the loss beneath is grey."""


def plot_plane(
    plane: PcaPlane,
    loss: Slice | None = None,
    *,
    yscale: str = "log",
    title: str = "",
    ax: Axes | None = None,
    distance_ax: Axes | None = None,
) -> Axes:
    """Draw the paths on a plane, coloured by how far they lie off it, and these distances beside.

    What is drawn beneath a point is the loss on the plane, which is not that of the point: the
    colour says where they may differ. A ring marks the end of each path.

    Args:
      plane: What `pca_plane` or `plane_through` returned.
      loss: What `slice_2d` returned for its origin, its directions and `coords=plane.grid()`.
      yscale: `"log"` or `"linear"`, of the loss.
      title: Of the axes.
      ax: Where to draw the plane; by default on the left of a new figure.
      distance_ax: Where to draw the distances; by default on the right of a new figure, and not at
        all beside an `ax`.

    Returns:
      The axes of the plane.

    Raises:
      TypeError: If `plane` is no plane, or `loss` no slice.
      ValueError: If the slice is along a line.

    Example:
      >>> from jaxopt_tut.landscape import pca_plane
      >>> plane = pca_plane({"sgd": np.array([[2.0, 0, 0], [1, 1, 1], [0, 0, 0]], np.float32)})
      >>> ax = plot_plane(plane)
      >>> [axes.get_ylabel() for axes in ax.figure.axes][1]
      'distance from the plane'
    """
    caller = "plot_plane"
    _require(caller, plane, loss)
    if ax is None:
        panels = new_figure(10.5, 4.4).subplots(1, 2, width_ratios=[1.5, 1])
        view: Axes = panels[0]
        distance_ax = panels[1] if distance_ax is None else distance_ax
    else:
        view = ax
    _beneath(view, plane, loss, yscale)
    norm = _norm(plane)
    for i, (name, path) in enumerate(plane.paths.items()):
        coords, distance = np.asarray(path.coords), np.asarray(path.distance)
        pieces = np.stack([coords[:-1], coords[1:]], axis=1)
        lines = LineCollection(list(pieces), cmap=_COLORMAP, norm=norm, linewidths=1.6)
        lines.set_array(distance[1:])
        view.add_collection(lines)
        style: dict[str, Any] = {
            "marker": MARKERS[i % len(MARKERS)],
            "edgecolors": "white",
            "linewidths": 0.4,
        }
        view.scatter(*coords.T, c=distance, cmap=_COLORMAP, norm=norm, s=22, zorder=3, **style)
        view.plot([], [], color="0.3", linestyle="", marker=style["marker"], label=name)
        end = _last(path)
        view.plot(*end.T, "o", color=COLORS[i % len(COLORS)], markersize=12, markerfacecolor="none")
        if distance_ax is not None:
            distance_ax.plot(np.arange(len(distance)), distance, label=name, **look(i))
    scale = ScalarMappable(norm, _COLORMAP)
    view.figure.colorbar(scale, ax=view, label="distance of the path from the plane")
    legend_below(view)
    if distance_ax is not None:
        tidy(distance_ax, xlabel="point of the path", ylabel="distance from the plane")
        legend_below(distance_ax)
    return _labelled(view, plane, title)


def plot_path(
    losses: PathLosses,
    *,
    metric: str | None = None,
    yscale: str = "linear",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss along one path or several, with the barrier of each as an upright line.

    Args:
      losses: What `path_loss` returned, or several of these by name.
      metric: One of the metrics, dashed with an axis of its own to the right.
      yscale: `"linear"` or `"log"`, of the loss.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes; those of the metric are a neighbour in the same figure.

    Raises:
      TypeError: If there is something else than losses along paths.
      ValueError: If there is none, or no such metric.

    Example:
      >>> from jaxopt_tut.landscape import linear_path, path_loss
      >>> wells = lambda w, _: (w**2 - 1) ** 2
      >>> ax = plot_path(path_loss(wells, linear_path(-1.0, 1.0), num_points=3))
      >>> ax.get_legend_handles_labels()[1]
      ['loss (barrier 1)']
    """
    caller = "plot_path"
    named = {"loss": losses} if isinstance(losses, PathLoss) else losses
    if not isinstance(named, Mapping) or not all(isinstance(x, PathLoss) for x in named.values()):
        found = type(losses).__name__
        raise TypeError(
            f"{caller} needs a PathLoss, or a mapping from names to these, got {found}."
        )
    if not named:
        raise ValueError(f"{caller} needs something to draw, got an empty mapping.")
    ax = axes_or_new(ax)
    beside = None if metric is None else ax.twinx()
    for i, (name, one) in enumerate(named.items()):
        t, loss = np.asarray(one.t, float), np.asarray(one.loss, float)
        order = np.argsort(t)
        t, loss = t[order], loss[order]
        style: dict[str, Any] = look(i) | {"linestyle": "-", "marker": ""}
        ax.plot(t, loss, label=f"{name} (barrier {float(one.barrier):.3g})", **style)
        chord = (1 - t) * loss[0] + t * loss[-1]
        if len(t) > 1 and t[0] == 0 and t[-1] == 1 and one.barrier > 0:
            at = int(np.argmax(loss - chord))
            ax.plot([t[at]] * 2, [chord[at], loss[at]], color=style["color"], linestyle=":")
        if beside is not None:
            if metric not in one.metrics:
                raise ValueError(
                    f"{caller} needs a metric of the paths, got metric={metric!r} for {name!r}, "
                    f"which has {sorted(one.metrics)}."
                )
            values = np.asarray(one.metrics[metric], float)[order]
            beside.plot(t, values, color=style["color"], linestyle="--")
    if beside is not None:
        beside.set_ylabel(f"{metric} (dashed)")
    set_scale(ax, "y", yscale)
    legend_below(ax, columns=1)
    return tidy(ax, xlabel="t along the path", ylabel="loss", title=title)


def animate_plane(
    plane: PcaPlane,
    file: str | FilePath,
    loss: Slice | None = None,
    *,
    yscale: str = "log",
    num_frames: int = 40,
    frames_per_second: int = 10,
    title: str = "",
) -> FilePath:
    """Write a GIF in which the paths on a plane grow; all end with the last frame.

    Args:
      plane: What `pca_plane` returned.
      file: Where to write.
      loss: What `slice_2d` returned for it.
      yscale: `"log"` or `"linear"`, of the loss.
      num_frames: How many pictures; the file grows with them, by some 10 kB each.
      frames_per_second: How many of them a second.
      title: Of the axes.

    Returns:
      The file.

    Raises:
      TypeError: If `plane` is no plane, or `loss` no slice.
      ValueError: If the slice is along a line, or a number is below 1.

    Example:
      >>> import tempfile
      >>> from jaxopt_tut.landscape import pca_plane
      >>> plane = pca_plane({"sgd": np.array([[2.0, 0, 0], [1, 1, 1], [0, 0, 0]], np.float32)})
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = animate_plane(plane, FilePath(folder) / "paths.gif", num_frames=3)
      ...     file.read_bytes()[:6]
      b'GIF89a'
    """
    caller = "animate_plane"
    _require(caller, plane, loss)
    for name, value in (("num_frames", num_frames), ("frames_per_second", frames_per_second)):
        if value < 1:
            raise ValueError(f"{caller} needs {name} >= 1, got {name}={value}.")
    figure = new_figure(5.2, 4.2)
    ax = figure.add_subplot()
    _beneath(ax, plane, loss, yscale)
    lines = []
    for i, (name, path) in enumerate(plane.paths.items()):
        (line,) = ax.plot(*np.asarray(path.coords).T, label=name, **look(i))  # all, for the limits
        lines.append((line, np.asarray(path.coords)))
    legend_below(ax)
    _labelled(ax, plane, title)
    figure.draw_without_rendering()  # laid out once: else each frame is
    figure.set_layout_engine("none")

    def draw(frame: int) -> list:
        share = 1.0 if num_frames == 1 else frame / (num_frames - 1)
        for line, coords in lines:
            line.set_data(*coords[: 1 + round(share * (len(coords) - 1))].T)
        return [line for line, _ in lines]

    animation = FuncAnimation(figure, draw, frames=num_frames)
    file = FilePath(file)
    animation.save(file, writer=PillowWriter(fps=frames_per_second), dpi=80)
    return file


def _require(caller: str, plane: PcaPlane, loss: Slice | None) -> None:
    if not isinstance(plane, PcaPlane):
        raise TypeError(f"{caller} needs a PcaPlane, got {type(plane).__name__}.")
    if loss is not None and not isinstance(loss, Slice):
        raise TypeError(f"{caller} needs what slice_2d returns as loss, got {type(loss).__name__}.")
    if loss is not None and len(loss.coords) != 2:
        raise ValueError(f"{caller} needs a loss on a plane, as of slice_2d, got one on a line.")


def _beneath(ax: Axes, plane: PcaPlane, loss: Slice | None, yscale: str) -> None:
    """Draw the loss in grey; without one, make room for the paths."""
    if loss is not None:
        plot_slice(loss, yscale=yscale, ax=ax)
        for image in ax.collections[:1]:
            image.set_cmap("Greys_r")
        return
    for limit, axis in zip((ax.set_xlim, ax.set_ylim), plane.grid(2), strict=True):
        limit(*np.asarray(axis))


def _labelled(ax: Axes, plane: PcaPlane, title: str) -> Axes:
    first, second = (f"{100 * float(share):.1f} %" for share in plane.explained)
    ax.grid(visible=False)
    tidy(ax, xlabel=f"first direction ({first})", ylabel=f"second ({second})", title=title)
    ax.grid(visible=False)
    return ax


def _norm(plane: PcaPlane) -> Normalize:
    distance = np.concatenate([np.asarray(path.distance) for path in plane.paths.values()])
    most = float(np.max(distance, initial=0, where=np.isfinite(distance)))
    return Normalize(0, most if most > 0 else 1)


def _last(path: PlanePath) -> np.ndarray:
    """Return the last point that is finite, if there is one."""
    coords = np.asarray(path.coords)
    return coords[np.isfinite(coords).all(axis=1)][-1:]
