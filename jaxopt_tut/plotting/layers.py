"""One number a layer: profiles on a logarithmic axis, and predictions against measurements."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike

from jaxopt_tut.plotting.style import COLORS, MARKERS, axes_or_new, legend_below, look, tidy


def plot_profile(
    values: Mapping[str, ArrayLike],
    *,
    predicted: Mapping[str, ArrayLike] | None = None,
    ylabel: str = "variance",
    xlabel: str = "layer",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw one number a layer on a logarithmic axis: mean over runs, bars of one standard error.

    $$\bar v_l = \frac1n \sum_i v_{il}, \qquad
      \mathrm{se}_l = \sqrt{\frac{1}{n(n-1)} \sum_i (v_{il} - \bar v_l)^2}$$

    Args:
      values: For each curve positive numbers of shape (runs, layers), or (layers,) for one run.
      predicted: For some of the curves the theory, shape (layers,): a broad grey line below it.
      ylabel: What is measured, with its unit.
      xlabel: What is counted.
      title: Of the axes; the number of runs is added.
      ax: Where to draw.

    Returns:
      The axes.

    Example:
      >>> ax = plot_profile({"he": [[1.0, 2.0], [3.0, 4.0]]})
      >>> ax.get_yscale(), ax.lines[0].get_ydata().tolist()
      ('log', [2.0, 3.0])
    """
    ax = axes_or_new(ax)
    predicted = predicted or {}
    num_runs = 1
    for i, (name, runs) in enumerate(values.items()):
        runs = np.atleast_2d(np.asarray(runs, np.float64))
        num_runs, depth = max(num_runs, len(runs)), runs.shape[1]
        style = look(i) | ({"marker": "", "linewidth": 1.8} if depth > 12 else {})
        error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else None
        layers = np.arange(1, depth + 1)
        ax.errorbar(
            layers,
            runs.mean(axis=0),
            error,
            label=name,
            capsize=2 if depth <= 12 else 0,
            elinewidth=0.8,
            **style,
        )
    for i, (name, theory) in enumerate(predicted.items()):
        theory = np.asarray(theory, np.float64)
        ax.plot(
            np.arange(1, theory.size + 1),
            theory,
            color="0.8",
            linewidth=6,
            zorder=0,
            label="theory" if i == 0 else None,
            gid=f"theory of {name}",
        )
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high < 30 * low:  # too few powers of ten to read the axis by
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    runs_text = f"mean of {num_runs} seeds, ± standard error" if num_runs > 1 else "one run"
    title = f"{title}\n({runs_text})" if title else runs_text
    legend_below(ax)
    return tidy(ax, xlabel=xlabel, ylabel=ylabel, title=title)


def plot_predicted(
    predicted: Mapping[str, ArrayLike],
    measured: Mapping[str, ArrayLike],
    *,
    errors: Mapping[str, ArrayLike] | None = None,
    xlabel: str = "predicted",
    ylabel: str = "measured",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw measurements against their predictions, both logarithmic, with the line $y = x$.

    Args:
      predicted: For each group positive numbers of any shape.
      measured: For the same groups, the same shapes.
      errors: Standard errors of the measurements, drawn as bars.
      xlabel: What was predicted, with its unit.
      ylabel: What was measured, with its unit.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      ValueError: If the two mappings do not name the same groups.

    Example:
      >>> ax = plot_predicted({"relu": [1.0, 2.0]}, {"relu": [1.1, 1.9]})
      >>> ax.get_xscale(), ax.get_legend().get_texts()[0].get_text()
      ('log', 'relu')
    """
    if set(predicted) != set(measured):
        raise ValueError(
            "plot_predicted needs the same groups on both sides, "
            f"got {sorted(predicted)} and {sorted(measured)}."
        )
    ax = axes_or_new(ax, 5.6, 5.2)
    everything = []
    for i, name in enumerate(predicted):
        x, y = (np.ravel(np.asarray(side[name], np.float64)) for side in (predicted, measured))
        everything.append(x)
        ax.errorbar(
            x,
            y,
            None if errors is None else np.ravel(np.asarray(errors[name], np.float64)),
            label=name,
            linestyle="",
            color=COLORS[i % len(COLORS)],
            # Colour and marker have periods that differ, so that ten groups stay distinct.
            marker=MARKERS[(i + i // len(COLORS)) % len(MARKERS)],
            markersize=5,
            markerfacecolor="none" if i >= len(COLORS) else COLORS[i],
            elinewidth=0.8,
        )
    ends = np.concatenate(everything)
    ends = np.array([ends.min(), ends.max()])
    ax.plot(ends, ends, color="0.4", linewidth=0.9, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    legend_below(ax, columns=5)
    return tidy(ax, xlabel=xlabel, ylabel=ylabel, title=title)
