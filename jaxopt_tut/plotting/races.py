"""Races of optimizers: who is fast on how much, how sure that is, and what tuning costs."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from jaxopt_tut.plotting.style import BAND_ALPHA, COLORS, LINES, MARKERS, axes_or_new, tidy
from jaxopt_tut.training.races import (
    Comparison,
    Confidence,
    Profiles,
    RaceTable,
    Sensitivity,
    TuningCost,
)

_Kind = TypeVar("_Kind")


def plot_performance_profiles(
    profiles: Profiles | RaceTable, *, title: str = "", ax: Axes | None = None
) -> Axes:
    r"""Draw on which share of the problems each optimizer is within a factor of the fastest.

    The height at 1 is how often it is the fastest, that at the right end how often it arrives
    within that factor. Bands are pointwise, over seeds, and given the problems.

    Args:
      profiles: What `RaceTable.profiles` returned; or the table, for that of steps.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `profiles` is something else.
    """
    profiles = _require("plot_performance_profiles", profiles, Profiles, "profiles")
    ax = axes_or_new(ax, width=7.6)
    taus, many = profiles.taus, len(profiles.optimizers)
    for i, name in enumerate(profiles.optimizers):
        look = _look(i)
        ax.step(
            taus,
            profiles.shares[i],
            where="post",
            label=name,
            markevery=(i * len(taus) // (8 * many), max(len(taus) // 6, 1)),
            **look,
        )
        ax.fill_between(
            taus,
            profiles.low[i],
            profiles.high[i],
            step="post",
            color=look["color"],
            alpha=BAND_ALPHA / max(1.0, many / 3),  # many bands lie on one another
            linewidth=0,
        )
    ax.set_xscale("log")
    _ticks(ax, [t for t in (1, 1.5, 2, 3, 4, 6, 10, 20, 50, 100) if t <= taus[-1]])
    ax.set_xlim(1.0, taus[-1])
    ax.set_ylim(-0.03, 1.03)
    _legend_beside(ax)
    return tidy(
        ax,
        xlabel=f"{profiles.unit} relative to the fastest",
        ylabel="share of the problems",
        title=_titled(title, f"{profiles.level:.0%} bands over seeds"),
    )


def plot_scores(
    confidence: Confidence | RaceTable, *, title: str = "", ax: Axes | None = None
) -> Axes:
    r"""Draw scores as a forest: thick intervals given the problems, thin ones over problems.

    Args:
      confidence: What `RaceTable.confidence` returned; or the table, for that of steps.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes, the best score on top; beside each name the probability of the highest score, given
      the problems and over problems.

    Raises:
      TypeError: If `confidence` is something else.
    """
    confidence = _require("plot_scores", confidence, Confidence, "confidence")
    order = np.argsort(confidence.scores, kind="stable")
    ax = axes_or_new(ax, width=7.6, height=1.6 + 0.28 * len(order))
    places = np.arange(len(order))
    for ends, width, label in (
        (confidence.over_problems, 1.4, "over problems"),
        (confidence.given_problems, 5.0, "given the problems"),
    ):
        label = f"{confidence.level:.0%} {label}"
        ax.hlines(places, *ends[order].T, color=COLORS[0], linewidth=width, label=label)
    ax.plot(
        confidence.scores[order],
        places,
        marker="o",
        linestyle="",
        color="white",
        markeredgecolor="black",
        label="score",
    )
    best = confidence.best_given_problems, confidence.best_over_problems
    names = [f"{confidence.optimizers[o]}  {best[0][o]:.0%} | {best[1][o]:.0%}" for o in order]
    ax.set_yticks(places, names)
    ax.set_ylim(-0.6, len(order) - 0.4)
    _legend_beside(ax)
    return tidy(
        ax,
        xlabel=f"score: area under the profile of {confidence.unit}",
        ylabel="optimizer",
        title=_titled(title, "beside names: chance to be best, given | over problems"),
    )


def plot_comparison(
    comparison: Comparison | RaceTable, *, title: str = "", ax: Axes | None = None
) -> Axes:
    r"""Draw the ratios of times of all pairs; bold ones differ, grey ones may be chance.

    Args:
      comparison: What `RaceTable.compare` returned; or the table, for that of steps over seeds.
      title: Of the axes; how many pairs differ is added.
      ax: Where to draw.

    Returns:
      The axes: rows and columns from the fastest on, blue where the row is faster.

    Raises:
      TypeError: If `comparison` is something else.
    """
    comparison = _require("plot_comparison", comparison, Comparison, "compare")
    many = len(comparison.optimizers)
    ax = axes_or_new(ax, width=max(5.0, 2.6 + 0.48 * many), height=2.4 + 0.38 * many)
    order = np.argsort(np.log(comparison.ratios).mean(axis=1), kind="stable")
    ratios = comparison.ratios[np.ix_(order, order)]
    sure = comparison.significant[np.ix_(order, order)]
    limit = max(1.0, float(np.max(np.abs(np.log2(ratios)))))
    # What may be chance has no colour: a reader who sees only colours sees only what differs.
    shown = np.where(sure, np.log2(ratios), 0.0)
    ax.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, col), ratio in np.ndenumerate(ratios):
        dark = abs(shown[row, col]) > 0.6 * limit
        ax.text(
            col,
            row,
            "" if row == col else f"{ratio:.2g}",
            ha="center",
            va="center",
            fontsize="x-small" if many > 8 else "small",
            fontweight="bold" if sure[row, col] else "normal",
            color=("white" if dark else "black") if sure[row, col] else "0.6",
        )
    names = [comparison.optimizers[o] for o in order]
    ax.set_xticks(range(many), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(many), names)
    num_sure, num_pairs = int(sure.sum()) // 2, comparison.num_pairs
    pairs = f"{num_pairs} pair{'' if num_pairs == 1 else 's'}"
    differ = f"{num_sure} of {pairs} differ{'s' if num_sure == 1 else ''} over {comparison.over}"
    title = _titled(title, f"{differ}, Holm at {comparison.alpha:g}")
    tidy(ax, xlabel="than this one", ylabel=f"{comparison.unit} of this one", title=title)
    ax.grid(visible=False)
    return ax


def plot_rate_sensitivity(
    sensitivity: Sensitivity | RaceTable,
    problem: str,
    *,
    quantity: Literal["steps", "loss"] = "steps",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the median time or loss at every learning rate, with the interval of the median.

    A median that never arrives has no point; an interval that reaches there goes up to the budget.

    Args:
      sensitivity: What `RaceTable.sensitivity` returned; or the table.
      problem: Which of its problems.
      quantity: "steps" to the target, or the final "loss".
      title: Of the axes; the problem by default.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `sensitivity` is something else.
      ValueError: If there is no such problem or quantity.
    """
    caller = "plot_rate_sensitivity"
    sensitivity = _require(caller, sensitivity, Sensitivity, "sensitivity")
    if problem not in sensitivity.problems:
        known = ", ".join(sensitivity.problems)
        raise ValueError(f"{caller} needs one of the problems {known}, got problem={problem!r}.")
    if quantity not in ("steps", "loss"):
        raise ValueError(f"{caller} needs quantity 'steps' or 'loss', got quantity={quantity!r}.")
    ax = axes_or_new(ax, width=7.6)
    place = sensitivity.problems.index(problem)
    steps = quantity == "steps"
    medians = (sensitivity.times if steps else sensitivity.losses)[:, place]
    ends = (sensitivity.time_intervals if steps else sensitivity.loss_intervals)[:, place]
    finite = medians[np.isfinite(medians)]
    top = sensitivity.budget if steps else 3 * np.max(finite, initial=1.0)
    alpha = BAND_ALPHA / max(1.0, len(sensitivity.optimizers) / 3)  # bands lie on one another
    for i, name in enumerate(sensitivity.optimizers):
        order = np.argsort(sensitivity.learning_rates[i])  # padding comes last
        order = order[np.isfinite(sensitivity.learning_rates[i][order])]
        rates, look = sensitivity.learning_rates[i][order], _look(i)
        arrives = np.isfinite(medians[i][order])
        label = name if arrives.any() else f"{name} (never)"
        ax.plot(rates, np.where(arrives, medians[i][order], np.nan), label=label, **look)
        low, high = np.minimum(ends[i][order], top).T
        # Where both ends are infinite nothing is known but that.
        band = np.isfinite(ends[i][order][:, 0])
        color = look["color"]
        ax.fill_between(rates, low, high, where=band, color=color, alpha=alpha, linewidth=0)
    if steps:
        ax.axhline(sensitivity.budget, color="0.4", linewidth=0.8, linestyle=":")
        ax.set_ylim(0, 1.05 * sensitivity.budget)
    elif finite.size and finite.min() > 0:
        ax.set_yscale("log")
    # Runs that never arrive leave no point by which the axis could be laid out.
    ax.set_xlim(_around(sensitivity.learning_rates))
    ax.set_xscale("log")
    _legend_beside(ax)
    title = f"{title or problem}\n(median and its {sensitivity.coverage:.0%} interval)"
    ylabel = "steps to the target (dotted: budget)" if steps else "final loss"
    return tidy(ax, xlabel="learning rate", ylabel=ylabel, title=title)


def plot_tuning_cost(
    cost: TuningCost | RaceTable,
    problem: str | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the time to be expected against the number of rates tried; dots are the defaults.

    Args:
      cost: What `RaceTable.tuning_cost` returned; or the table, for that without replacement.
      problem: Which of its problems; None is the geometric mean over all.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `cost` is something else.
      ValueError: If there is no such problem.
    """
    cost = _require("plot_tuning_cost", cost, TuningCost, "tuning_cost")
    if problem is None:
        steps, defaults = cost.overall, cost.overall_defaults
    elif problem in cost.problems:
        place = cost.problems.index(problem)
        steps, defaults = cost.steps[:, place], cost.defaults[:, place]
    else:
        known = ", ".join(cost.problems)
        raise ValueError(
            f"plot_tuning_cost needs one of the problems {known}, got problem={problem!r}."
        )
    ax = axes_or_new(ax, width=7.6)
    for i, name in enumerate(cost.optimizers):
        look = _look(i)
        ax.plot(cost.trials, steps[i], label=name, markevery=max(len(cost.trials) // 6, 1), **look)
        dot = look | {"linestyle": "", "markersize": 8, "markeredgecolor": "black"}
        # The default takes no trial: it stands left of the first.
        ax.plot([0.7], [defaults[i]], clip_on=False, **dot)
    ax.set_xscale("log")
    trials = [k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= len(cost.trials)]
    _ticks(ax, [0.7, *trials], {0.7: "default"})
    ax.set_xlim(0.6, 1.1 * len(cost.trials))
    ax.axvline(0.84, color="0.7", linewidth=0.8)
    ax.set_ylim(_around(np.append(steps, defaults)))
    ax.set_yscale("log")
    for formatter in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        formatter(lambda value, _: f"{value:g}")
    _legend_beside(ax)
    mean = "expected steps to the target" if problem else "expected steps, mean over problems"
    return tidy(ax, xlabel="learning rates tried", ylabel=mean, title=title)


def _titled(title: str, note: str) -> str:
    """Put a note in brackets below the title; without one it is the title."""
    return f"{title}\n({note})" if title else note[:1].upper() + note[1:]


def _require(caller: str, value: Any, kind: type[_Kind], method: str) -> _Kind:
    """Ask a race's table for it, and refuse what its method has not returned."""
    if isinstance(value, RaceTable):
        value = getattr(value, method)()
    if not isinstance(value, kind):
        raise TypeError(
            f"{caller} needs what RaceTable.{method} returns, a {kind.__name__}, or a RaceTable, "
            f"got {type(value).__name__}."
        )
    return value


def _look(index: int) -> dict[str, Any]:
    """Return how a curve of a dozen or more is drawn: colour and marker have other periods."""
    turn = index + index // len(COLORS)
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": LINES[turn % len(LINES)],
        "marker": MARKERS[turn % len(MARKERS)],
        "markersize": 4,
    }


def _ticks(ax: Axes, places: list[float], names: Mapping[float, str] | None = None) -> None:
    """Label a logarithmic axis with plain numbers, or with names for some of them."""
    names = names or {}
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_major_formatter(lambda value, _: names.get(value, f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def _around(values: np.ndarray) -> tuple[float, float]:
    """Return the limits of a logarithmic axis that shows all values, and some space around one."""
    low, high = np.nanmin(values), np.nanmax(values)
    margin = max((high / low) ** 0.05, 1.1)
    return float(low / margin), float(high * margin)


def _legend_beside(ax: Axes) -> None:
    """Put the legend to the right, in a column: a race has many names."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize="small", frameon=False)
