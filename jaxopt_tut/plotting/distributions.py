"""Histograms of what flows through a network, one panel a layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from typing_extensions import TypeAliasType

from jaxopt_tut.diagnostics import Diagnosis
from jaxopt_tut.plotting.numbers import Named, Numbers, real_numbers, require_named
from jaxopt_tut.plotting.style import COLORS, new_figure, small_ticks
from jaxopt_tut.taps import Tape
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

Rows = TypeAliasType("Rows", Mapping[str, Sequence[Numbers] | Named | PyTree])
"""For each quantity the values of the layers, in order, by name, or in a tree of parameters."""


def plot_distributions(
    rows: Rows,
    *,
    titles: Sequence[str] | None = None,
    title: str = "",
    bins: int = 50,
    figure: Figure | None = None,
) -> Figure:
    r"""Draw one histogram a layer, and one row a quantity; print each variance.

    $$\hat p_k = \frac{n_k}{n\,\Delta}, \qquad \mathrm{Var} = \frac1n \sum_i (x_i - \bar x)^2$$

    Bars are densities over equal bins of width $\Delta$. Panels have scales of their own: layers
    may lie decades apart. A layer of one value is drawn as a line at it. Costs one pass over the
    values.

    Args:
      rows: For each quantity (weights, gradients, …) one array a layer, of any shape, in order or
        by name; or a tree of parameters, whose leaves are the layers. A `Tape` alone is one row.
      titles: One a layer, for instance `(784 -> 512)`; by default the names of the layers.
      title: Above all panels.
      bins: Bins a panel.
      figure: Where to draw; a new figure by default. (A row of panels has no single `ax`.)

    Returns:
      The figure, its axes in reading order.

    Raises:
      TypeError: If `rows` is no mapping, or something in it is no array of real numbers.
      ValueError: If there is no row, or a row has not one array a title.

    Example:
      >>> figure = plot_distributions({"weights": [[0.0, 1.0], [2.0]]}, titles=["a", "b"])
      >>> [ax.get_title() for ax in figure.axes]
      ['a', 'b']
      >>> figure.axes[0].texts[0].get_text()
      'Var 0.25'
    """
    named: Mapping[str, Any] = {"recorded": rows} if isinstance(rows, Tape) else rows
    if isinstance(rows, Diagnosis):
        raise TypeError("plot_distributions needs arrays, got a Diagnosis: use plot_diagnosis.")
    if not isinstance(named, Mapping) or named:
        require_named("plot_distributions", named)
        named = {name: _flat(name, layers) for name, layers in named.items()}
    if titles is None:
        first = next(iter(named.values()), ())
        titles = list(first) if isinstance(first, Mapping) else [""] * len(first)
    if not len(titles) and named:
        raise ValueError(f"plot_distributions needs a layer at least, got none in {list(named)}.")
    panes = {
        name: [
            real_numbers("plot_distributions", name, values)
            for values in (layers.values() if isinstance(layers, Mapping) else layers)
        ]
        for name, layers in named.items()
    }
    if not panes or any(len(layers) != len(titles) for layers in panes.values()):
        counts = {name: len(layers) for name, layers in panes.items()}
        raise ValueError(
            f"plot_distributions needs rows of one array a title ({len(titles)}), got {counts}."
        )
    if figure is None:
        figure = new_figure(2.3 * len(titles), 1.75 * len(panes) + 0.5)
    panels = figure.subplots(len(panes), len(titles), squeeze=False)
    for i, (name, layers) in enumerate(panes.items()):
        for j, values in enumerate(layers):
            ax = panels[i, j]
            _histogram(ax, values.ravel(), bins, COLORS[i % len(COLORS)])
            small_ticks(ax)
            if i == 0:
                ax.set_title(titles[j], fontsize="small")
            ax.set_xlabel(name, fontsize="small")
        panels[i, 0].set_ylabel("density", fontsize="small")
    if title:
        figure.suptitle(title)
    return figure


def _flat(name: str, layers: Any) -> Any:
    """Name the leaves of a tree of parameters."""
    is_record = hasattr(layers, "_fields") or hasattr(layers, "__dataclass_fields__")
    is_group = isinstance(layers, Mapping | list | tuple) and not is_record
    if not is_group and (is_record or not getattr(layers, "ndim", 0)):
        raise TypeError(
            f"plot_distributions needs arrays by layer, got {type(layers).__name__} for {name!r}."
        )
    is_tree = isinstance(layers, Mapping) and any(isinstance(x, Mapping) for x in layers.values())
    return dict(named_leaves(layers)) if is_tree else layers


def _histogram(ax: Axes, values: np.ndarray, bins: int, color: str) -> None:
    """Draw one panel; non-finite values are counted in the text instead of drawn."""
    finite = values[np.isfinite(values)]
    text = f"Var {np.var(finite):.3g}" if finite.size else "Var -"
    if finite.size < values.size:
        text += f"\n{values.size - finite.size} not finite"
    # Values that agree to rounding have no width to be binned.
    if finite.size and np.ptp(finite) > 1e-6 * np.abs(finite).max():
        density, edges = np.histogram(finite, bins=bins, density=True)
        ax.stairs(density, edges, fill=True, color=color, alpha=0.75)
        ax.set_ylim(0, 1.3 * density.max())  # room for the text above the bars
    elif finite.size:
        ax.axvline(finite[0], color=color, linewidth=2)
        ax.set_ylim(0, 1)
        ax.set_yticks([])
        text += f"\nall {finite[0]:.3g}"
    ax.text(0.97, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize="x-small")
