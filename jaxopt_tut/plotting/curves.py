"""Curves: training, sensitivity to the learning rate, functions of one variable."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from typing_extensions import TypeAliasType

from jaxopt_tut import optimizers
from jaxopt_tut.plotting.numbers import (
    Named,
    Numbers,
    label_for,
    optional_named,
    real_numbers,
    require_named,
    scale_for,
    set_scale,
)
from jaxopt_tut.plotting.results import epoch_curves, search_values
from jaxopt_tut.plotting.style import (
    BAND_ALPHA,
    COLORS,
    MARKERS,
    axes_or_new,
    legend_below,
    look,
    tidy,
)
from jaxopt_tut.training import FitResult, History

Training = TypeAliasType(
    "Training",
    Numbers | FitResult | History | Sequence[FitResult] | optimizers.Solution | optimizers.History,
)
"""What `fit` returned, a list of such runs, numbers an epoch, or a search of `minimize`."""

Trainings = TypeAliasType("Trainings", Training | Mapping[str, Training])
"""One training, or several by the name of the optimizer."""


_FEW_RUNS = 10
"""Fewer runs have no 10th percentile."""


def plot_training_curves(
    train: Trainings,
    validation: Named | Numbers | None = None,
    *,
    metric: str | None = None,
    ylabel: str | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw a quantity an epoch: training dashed, validation solid, mean over runs and range.

    Searches of `minimize` are drawn by their loss, a step a point, the start at step 0. A curve
    without a finite number is named so in the legend.

    Args:
      train: What `fit` returned, or its history; a list of such runs; or numbers of shape
        (runs, epochs), or (epochs,) for one run; or for each optimizer one of these. Or what
        `minimize(..., history=True)` returned, or several of these by name.
      validation: Numbers for the validation set, as those of `train`; names of its own are drawn
        too. Of what `fit` returned it is drawn without.
      metric: Which of the quantities that `fit` recorded; by default the accuracy, else the first
        that both sides have, else the loss.
      ylabel: What is measured, with its unit; by default the metric, of searches the loss. Numbers
        do not say what they are: name it here.
      title: Of the axes; the number of runs is added.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `train` or `validation` is none of these, or something in it is no array of
        real numbers.
      ValueError: If there is no curve, an array has more than two axes, runs differ in length, the
        metric was not recorded, or a search has no history or stands beside a training.

    Example:
      >>> ax = plot_training_curves({"adam": [0.5, 0.7]}, {"adam": [0.4, 0.5]})
      >>> [text.get_text() for text in ax.get_legend().get_texts()]
      ['adam, train', 'adam, validation']
    """
    caller = "plot_training_curves"
    if searches := search_values(caller, train):
        if validation is not None or metric not in (None, "loss"):
            other = f"metric={metric!r}" if validation is None else "validation="
            raise ValueError(
                f"{caller} needs searches alone, got {other} beside: minimize records the loss."
            )
        return _searches(caller, searches, ylabel, title, axes_or_new(ax))
    trained, validated, metric = epoch_curves(caller, train, validation, metric)
    validated = {} if validated is None else validated
    for curves in (trained if trained or not validated else validated, validated or {"": []}):
        require_named(caller, curves)
    ax = axes_or_new(ax)
    num_runs = 1
    for i, name in enumerate(dict.fromkeys([*trained, *validated])):
        sides = {
            "train": (trained, "--", "none"),
            "validation": (validated, "-", COLORS[i % len(COLORS)]),
        }
        for side, (curves, line, face) in sides.items():
            if name not in curves:
                continue
            shape = "(runs, epochs) or (epochs,)"
            runs = np.atleast_2d(real_numbers(caller, name, curves[name], shape, [1, 2]))
            if not runs.size:
                raise ValueError(
                    f"{caller} needs an epoch at least, got shape {np.shape(curves[name])} for "
                    f"{name or side!r}."
                )
            num_runs = max(num_runs, len(runs))
            epochs = np.arange(1, runs.shape[1] + 1)
            style = look(i) | {"linestyle": line, "markerfacecolor": face}
            every = max(1, runs.shape[1] // 10)
            ax.plot(
                epochs,
                runs.mean(axis=0),
                label=label_for(f"{name}, {side}" if name else side, runs, "linear"),
                markevery=every,
                **style,
            )
            if len(runs) > 1:
                ax.fill_between(
                    epochs,
                    runs.min(axis=0),
                    runs.max(axis=0),
                    color=COLORS[i % len(COLORS)],
                    alpha=BAND_ALPHA,
                    linewidth=0,
                )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    legend_below(ax, columns=3)
    runs_text = f"mean and range of {num_runs} seeds" if num_runs > 1 else "one seed"
    title = f"{title}\n({runs_text})" if title else runs_text
    ylabel = (metric or "value") if ylabel is None else ylabel
    return tidy(ax, xlabel="epoch", ylabel=ylabel, title=title)


def _searches(caller: str, searches: Named, ylabel: str | None, title: str, ax: Axes) -> Axes:
    """Draw the loss over the steps of searches, a point the start and one each step."""
    for i, (name, values) in enumerate(searches.items()):
        shape = "(steps + 1,)"
        losses = real_numbers(caller, name or "train", values, shape, [1])
        label = label_for(name or "search", losses, "linear")
        ax.plot(losses, label=label, markevery=max(1, len(losses) // 10), **look(i))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    legend_below(ax, columns=3)
    return tidy(ax, xlabel="step", ylabel="loss" if ylabel is None else ylabel, title=title)


def plot_sensitivity(
    learning_rates: Numbers,
    scores: Named,
    *,
    chosen: Mapping[str, float] | None = None,
    ylabel: str = "loss",
    yscale: str = "log",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw a score against the learning rate: median over runs, and a band.

    The band holds the middle 80 % of the runs, of fewer than ten all of them.

    Args:
      learning_rates: The grid, shape (rates,).
      scores: For each optimizer, shape (rates, runs) or (rates,).
      chosen: For some of the curves the learning rate (nearest on the grid) to mark.
      ylabel: What the score is, with its unit.
      yscale: "log" or "linear"; linear where no score is positive.
      title: Of the axes; the number of runs is added where there are several.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `scores` is no mapping, or something in it is no array of real numbers.
      ValueError: If there is no curve, or an array has not the rates in its first axis.

    Example:
      >>> ax = plot_sensitivity([0.1, 1.0], {"sgd": [[1.0, 3.0, 8.0], [2.0, 2.0, 2.0]]})
      >>> ax.lines[0].get_ydata().tolist()
      [3.0, 2.0]
    """
    caller = "plot_sensitivity"
    require_named(caller, scores)
    rates = real_numbers(caller, "learning_rates", learning_rates, "(rates,)", [1])
    every = {name: real_numbers(caller, name, runs) for name, runs in scores.items()}
    for name, runs in every.items():
        if not rates.size or runs.shape[:1] != rates.shape or not runs.size:
            raise ValueError(
                f"plot_sensitivity needs scores of shape ({rates.size} rates, runs), "
                f"got shape {runs.shape} for {name!r}."
            )
    marked = optional_named(caller, "chosen", chosen)
    ax = axes_or_new(ax)
    yscale = scale_for(yscale, *every.values())
    num_runs = 1
    few = min(runs.size for runs in every.values()) < _FEW_RUNS * rates.size
    for i, (name, runs) in enumerate(every.items()):
        runs = runs.reshape(rates.size, -1)
        num_runs = max(num_runs, runs.shape[1])
        with np.errstate(invalid="ignore"):  # runs that diverged: between infinities is no number
            low, high = np.quantile(runs, [0.0, 1.0] if few else [0.1, 0.9], axis=1)
            median = np.median(runs, axis=1)
        ax.plot(rates, median, label=label_for(name, runs, yscale), **look(i))
        if runs.shape[1] > 1:
            ax.fill_between(
                rates, low, high, color=COLORS[i % len(COLORS)], alpha=BAND_ALPHA, linewidth=0
            )
        if name in marked:
            nearest = np.argmin(np.abs(rates - marked[name]))
            ax.plot(
                rates[nearest],
                median[nearest],
                marker=MARKERS[i % len(MARKERS)],
                markersize=12,
                markeredgewidth=1.8,
                markerfacecolor="none",
                color=COLORS[i % len(COLORS)],
                linestyle="",
            )
    set_scale(ax, "x", "log")
    set_scale(ax, "y", yscale)
    legend_below(ax)
    if num_runs > 1:
        band = "range" if few else "10-90 %"
        runs_text = f"median and {band} of {num_runs} runs"
        title = f"{title}\n({runs_text})" if title else runs_text
    return tidy(ax, xlabel="learning rate", ylabel=ylabel, title=title)


def plot_lines(
    x: Numbers,
    lines: Named,
    *,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    yscale: str = "linear",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw functions of one variable, without markers.

    Args:
      x: Where they were evaluated, shape (points,).
      lines: The values of each, shape (points,).
      xlabel: What x is, with its unit.
      ylabel: What the values are, with their unit.
      xscale: "linear" or "log"; linear where nothing is positive.
      yscale: Likewise.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `lines` is no mapping, or something in it is no array of real numbers.
      ValueError: If there is no curve, or a line has not one value a point.

    Example:
      >>> ax = plot_lines([0.0, 1.0], {"f": [2.0, 3.0]}, xlabel="w", ylabel="loss")
      >>> ax.get_xlabel(), ax.lines[0].get_ydata().tolist()
      ('w', [2.0, 3.0])
    """
    require_named("plot_lines", lines)
    is_dates = np.issubdtype(getattr(x, "dtype", float), np.datetime64)
    x = np.asarray(x) if is_dates else real_numbers("plot_lines", "x", x, "(points,)", [1])
    every = {
        name: real_numbers("plot_lines", name, values, "(points,)", [1])
        for name, values in lines.items()
    }
    ax = axes_or_new(ax)
    yscale = scale_for(yscale, *every.values())
    for i, (name, values) in enumerate(every.items()):
        if values.shape != x.shape:
            raise ValueError(
                f"plot_lines needs one value a point ({x.size}), got {values.size} for {name!r}."
            )
        (line,) = ax.plot(x, values, label=label_for(name, values, yscale), **look(i))
        line.set_marker("")
    set_scale(ax, "x", xscale)
    set_scale(ax, "y", yscale)
    legend_below(ax)
    return tidy(ax, xlabel=xlabel, ylabel=ylabel, title=title)
