"""A loss along a line, and on a plane, through a point in the space of parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator
from typing_extensions import TypeAliasType

from jaxopt_tut.landscape import Slice
from jaxopt_tut.plotting.numbers import real_numbers, scale_for, set_scale
from jaxopt_tut.plotting.style import COLORS, axes_or_new, legend_below, look, tidy

Slices = TypeAliasType("Slices", Slice | Mapping[str, Slice])
"""A slice, or several along lines by the name that the legend gives them."""


def plot_slice(
    slices: Slices,
    *,
    metric: str | None = None,
    yscale: str = "linear",
    xlabel: str = "along the direction",
    ylabel: str = "loss",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw what `slice_1d` returned as a curve, or what `slice_2d` did as contours.

    A cross marks the centre. On a line a metric is drawn dashed with an axis of its own to the
    right; of a plane it is drawn instead of the loss.

    Args:
      slices: A slice, or several along lines by name.
      metric: One of the metrics of the slices.
      yscale: `"linear"` or `"log"`, of the loss, or of the colours; linear where nothing is
        positive.
      xlabel: What the coordinate is; of a plane its first one.
      ylabel: What the loss is, with its unit.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes; an axis of a metric, and a colour bar, are neighbours in the same figure.

    Raises:
      TypeError: If there is something else than slices.
      ValueError: If there is none, a plane among several, no such metric, or another scale.

    Example:
      >>> from jaxopt_tut.landscape import slice_1d
      >>> line = slice_1d(lambda w, _: (w - 1) ** 2, 0.0, 1.0, coords=[0.0, 1.0, 3.0])
      >>> plot_slice(line).lines[0].get_ydata().tolist()
      [1.0, 0.0, 4.0]
    """
    caller = "plot_slice"
    named = {ylabel: slices} if isinstance(slices, Slice) else slices
    if not isinstance(named, Mapping) or not all(isinstance(s, Slice) for s in named.values()):
        found = type(slices).__name__
        raise TypeError(f"{caller} needs a Slice, or a mapping from names to slices, got {found}.")
    if not named:
        raise ValueError(f"{caller} needs something to draw, got an empty mapping.")
    if yscale not in ("linear", "log"):
        raise ValueError(f"{caller} needs yscale='linear' or 'log', got yscale={yscale!r}.")
    for name, one in named.items():
        if metric is not None and metric not in one.metrics:
            raise ValueError(
                f"{caller} needs a metric of the slices, got metric={metric!r} for {name!r}, "
                f"which has {sorted(one.metrics)}."
            )
        if len(one.coords) != 1 and len(named) > 1:
            raise ValueError(f"{caller} draws planes one by one, got one at {name!r} of several.")
    first = next(iter(named.values()))
    if len(first.coords) == 1:
        ax = _lines(axes_or_new(ax), dict(named), metric, yscale, ylabel)
        return tidy(ax, xlabel=xlabel, ylabel=ylabel, title=title)
    ax = axes_or_new(ax, 5.8, 4.6)
    _contours(ax, first, metric, yscale, ylabel)
    tidy(ax, xlabel=xlabel, ylabel="along the second one", title=title)
    ax.grid(visible=False)
    return ax


def _lines(ax: Axes, named: dict[str, Slice], metric: str | None, yscale: str, ylabel: str) -> Axes:
    values = {name: real_numbers("plot_slice", name, one.loss) for name, one in named.items()}
    beside = None if metric is None else ax.twinx()
    for i, (name, one) in enumerate(named.items()):
        style: dict[str, Any] = look(i) | {"marker": ""}
        if beside is not None:
            style["linestyle"] = "-"
        ax.plot(np.asarray(one.coords[0]), values[name], label=name, **style)
        if beside is not None:
            style["linestyle"] = "--"
            label = metric if len(named) == 1 else f"{name}, {metric}"
            beside.plot(np.asarray(one.coords[0]), np.asarray(one.metrics[str(metric)]), **style)
            ax.plot([], [], label=label, **style)  # for the one legend
    if beside is not None:
        beside.set_ylabel(f"{metric} (dashed)")
    set_scale(ax, "y", scale_for(yscale, *values.values()))
    ax.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    if len(named) > 1 or metric is not None or next(iter(named)) != ylabel:
        legend_below(ax)
    return ax


def _contours(ax: Axes, plane: Slice, metric: str | None, yscale: str, ylabel: str) -> None:
    what = ylabel if metric is None else metric
    given = plane.loss if metric is None else plane.metrics[metric]
    values = real_numbers("plot_slice", what, given)
    shown = values[np.isfinite(values)]
    xs, ys = (np.asarray(axis, float) for axis in plane.coords)
    mark = {"color": COLORS[1], "marker": "x", "markersize": 8, "markeredgewidth": 2}
    if min(values.shape) < 2 or not shown.size or shown.min() == shown.max():
        # nothing has a level there: points, in their colours
        grid = np.meshgrid(xs, ys, indexing="ij")
        ax.figure.colorbar(ax.scatter(*grid, c=values, cmap="cividis"), ax=ax, label=what)
    else:
        # of a plane with both signs, or none positive, no logarithms
        is_log = scale_for(yscale, values) == "log" and shown.min() > 0
        ends = float(shown.min()), float(shown.max())
        norm = LogNorm(*ends) if is_log else Normalize(*ends)
        levels = np.geomspace(*ends, 25) if is_log else np.linspace(*ends, 25)
        masked = np.ma.masked_invalid(values.T)
        image = ax.contourf(xs, ys, masked, levels=levels, norm=norm, cmap="cividis")
        ax.contour(xs, ys, masked, levels=levels[::3], colors="white", linewidths=0.5)
        bar = ax.figure.colorbar(image, ax=ax, label=what)
        bar.locator = LogLocator(subs=(1, 2, 5)) if is_log else MaxNLocator(6)
        bar.update_ticks()
    ax.plot(0.0, 0.0, **mark)
    ax.set_xlim(xs.min(), xs.max()) if xs.size > 1 else None
    ax.set_ylim(ys.min(), ys.max()) if ys.size > 1 else None
