"""One number a layer: profiles on a logarithmic axis, and predictions against measurements."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from typing_extensions import TypeAliasType

from jaxopt_tut.calibration import CalibrationReport
from jaxopt_tut.diagnostics import Diagnosis, Statistics
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
from jaxopt_tut.plotting.results import layer_profiles
from jaxopt_tut.plotting.style import COLORS, MARKERS, axes_or_new, legend_below, look, tidy
from jaxopt_tut.plotting.texts import literal_where_unreadable
from jaxopt_tut.taps import Tape

Layered = TypeAliasType("Layered", Diagnosis | Statistics | CalibrationReport)
"""What knows a variance of each layer."""

Profiles = TypeAliasType("Profiles", Layered | Mapping[str, Numbers | Named | Layered])
"""For each curve one number a layer, for many runs perhaps; or numbers or arrays by layer; or what
has a variance for each layer."""


def plot_profile(
    values: Profiles,
    *,
    predicted: Named | None = None,
    ylabel: str = "variance",
    xlabel: str = "layer",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw one number a layer on a logarithmic axis: mean over runs, bars of one standard error.

    $$\bar v_l = \frac1n \sum_i v_{il}, \qquad
      \mathrm{se}_l = \sqrt{\frac{1}{n(n-1)} \sum_i (v_{il} - \bar v_l)^2}$$

    Where no number is positive the axis is linear.

    Args:
      values: For each curve positive numbers of shape (runs, layers), or (layers,) for one run; or
        a number, or an array to take the variance of, by the name of the layer. A `Tape` alone is
        one curve: the variances of what was recorded. So are a `Diagnosis` and what `statistics`
        returns: those of the pre-activations; of a `CalibrationReport` these are drawn before and
        after. All may stand in the mapping, too.
      predicted: For some of the curves the theory, shape (layers,): a broad grey line below it.
      ylabel: What is measured, with its unit.
      xlabel: What is counted.
      title: Of the axes; the number of runs is added.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `values` is no mapping, or something in it is no array of real numbers.
      ValueError: If there is no curve, or an array has more than two axes.

    Example:
      >>> ax = plot_profile({"he": [[1.0, 2.0], [3.0, 4.0]]})
      >>> ax.get_yscale(), ax.lines[0].get_ydata().tolist()
      ('log', [2.0, 3.0])
    """
    named = layer_profiles(values)
    require_named("plot_profile", named)
    if isinstance(named, Tape):
        named = {"recorded": named}
    curves = {name: _by_layer(name, runs) for name, runs in named.items()}
    theories = {
        name: real_numbers("plot_profile", f"predicted {name}", theory, "(layers,)", [1])
        for name, theory in optional_named("plot_profile", "predicted", predicted).items()
    }
    ax = axes_or_new(ax)
    scale = scale_for("log", *curves.values(), *theories.values())
    num_runs = max(map(len, curves.values()))
    for i, (name, runs) in enumerate(curves.items()):
        depth = runs.shape[1]
        style = look(i) | ({"marker": "", "linewidth": 1.8} if depth > 12 else {})
        error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else None
        layers = np.arange(1, depth + 1)
        ax.errorbar(
            layers,
            runs.mean(axis=0),
            error,
            label=label_for(name, runs, scale),
            capsize=2 if depth <= 12 else 0,
            elinewidth=0.8,
            **style,
        )
    for i, (name, theory) in enumerate(theories.items()):
        ax.plot(
            np.arange(1, theory.size + 1),
            theory,
            color="0.8",
            linewidth=6,
            zorder=0,
            label="theory" if i == 0 else None,
            gid=f"theory of {name}",
        )
    set_scale(ax, "y", scale)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    names = {tuple(runs) for runs in named.values() if isinstance(runs, Mapping)}
    if len(names) == 1 and len(layers := names.pop()) <= 12:
        ax.set_xticks(range(1, len(layers) + 1), layers, rotation=30, ha="right", fontsize="small")
        literal_where_unreadable(ax.get_xticklabels())
        ax.legend(fontsize="small", frameon=False)  # below are the names
    else:
        legend_below(ax)
    runs_text = f"mean of {num_runs} seeds, ± standard error" if num_runs > 1 else "one run"
    title = f"{title}\n({runs_text})" if title else runs_text
    return tidy(ax, xlabel=xlabel, ylabel=ylabel, title=title)


def _by_layer(name: str, runs: Numbers | Named) -> np.ndarray:
    """Return one number a layer and run; of arrays by layer the variances."""
    if not isinstance(runs, Mapping):
        shape = "(runs, layers) or (layers,)"
        return np.atleast_2d(real_numbers("plot_profile", name, runs, shape, [1, 2]))
    if not isinstance(runs, Tape) and not any(np.ndim(value) for value in runs.values()):
        numbers = [real_numbers("plot_profile", layer, value) for layer, value in runs.items()]
        return np.array([numbers])
    return np.array([[_variance(layer, value) for layer, value in runs.items()]])


def _variance(layer: str, value: Numbers) -> float:
    """Take the variance in double precision, of complex numbers about their mean in the plane."""
    if np.iscomplexobj(value):
        return float(np.var(np.asarray(value, np.complex128)))
    return float(np.var(real_numbers("plot_profile", layer, value)))


def plot_predicted(
    predicted: Named,
    measured: Named,
    *,
    errors: Named | None = None,
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
      TypeError: If one of the three is no mapping, or something in it no array of real numbers.
      ValueError: If the two mappings do not name the same groups, or the shapes differ.

    Example:
      >>> ax = plot_predicted({"relu": [1.0, 2.0]}, {"relu": [1.1, 1.9]})
      >>> ax.get_xscale(), ax.get_legend().get_texts()[0].get_text()
      ('log', 'relu')
    """
    for side in (predicted, measured):
        require_named("plot_predicted", side)
    if set(predicted) != set(measured):
        raise ValueError(
            "plot_predicted needs the same groups on both sides, "
            f"got {sorted(predicted)} and {sorted(measured)}."
        )
    if errors is not None:
        require_named("plot_predicted", errors, "errors")
        if missing := sorted(set(predicted) - set(errors)):
            raise ValueError(f"plot_predicted needs errors of all groups, got none of {missing}.")
    sides = [
        {name: real_numbers("plot_predicted", name, side[name]) for name in predicted}
        for side in ((predicted, measured) if errors is None else (predicted, measured, errors))
    ]
    for name in predicted:
        shapes = [side[name].shape for side in sides]
        if len(set(shapes)) > 1:
            raise ValueError(
                "plot_predicted needs arrays of the same shape, got "
                f"{' and '.join(map(str, shapes))} for {name!r}."
            )
    ax = axes_or_new(ax, 5.6, 5.2)
    scales = [scale_for("log", *side.values()) for side in sides[:2]]
    for i, name in enumerate(predicted):
        x, y, *bars = (np.ravel(side[name]) for side in sides)
        ax.errorbar(
            x,
            y,
            bars[0] if bars else None,
            label=label_for(label_for(name, x, scales[0]), y, scales[1]),
            linestyle="",
            color=COLORS[i % len(COLORS)],
            # Colour and marker have periods that differ, so that ten groups stay distinct.
            marker=MARKERS[(i + i // len(COLORS)) % len(MARKERS)],
            markersize=5,
            markerfacecolor="none" if i >= len(COLORS) else COLORS[i],
            elinewidth=0.8,
        )
    everything = np.concatenate([np.ravel(x) for x in sides[0].values()])
    if (finite := everything[np.isfinite(everything)]).size:
        ends = np.array([finite.min(), finite.max()])
        ax.plot(ends, ends, color="0.4", linewidth=0.9, zorder=0)
    set_scale(ax, "x", scales[0])
    set_scale(ax, "y", scales[1])
    legend_below(ax, columns=5)
    return tidy(ax, xlabel=xlabel, ylabel=ylabel, title=title)
