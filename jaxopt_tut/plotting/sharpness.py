"""Sharpness as training goes on, beside what the learning rate allows."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from typing_extensions import TypeAliasType

from jaxopt_tut.plotting.numbers import (
    Named,
    Numbers,
    label_for,
    real_numbers,
    require_named,
    scale_for,
    set_scale,
)
from jaxopt_tut.plotting.results import measured_sharpness
from jaxopt_tut.plotting.style import (
    BAND_ALPHA,
    COLORS,
    axes_or_new,
    legend_below,
    look,
    tidy,
)
from jaxopt_tut.training import FitResult, History
from jaxopt_tut.types import Number

Limits = TypeAliasType("Limits", Mapping[str, Number] | Number | None)
"""A limit for each run, by name, or one for all."""


Measurements = TypeAliasType(
    "Measurements", Numbers | FitResult | History | Mapping[str, FitResult | History]
)
"""Steps, or what `fit` returned with a probe of sharpness, or several of these by name."""


def plot_sharpness(
    steps: Measurements,
    sharpness: Named | None = None,
    *,
    limits: Limits = None,
    relative: bool = False,
    ylabel: str = "sharpness",
    yscale: str = "linear",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the sharpness over the steps of training, and the stability limit of each run.

    Median over repeated runs, with a band from the least to the largest. What is not finite is a
    gap.

    Args:
      steps: What `fit` returned with a `sharpness_probe` among its probes, or several of these by
        name; or where it was measured, such as `history.probe_steps`, shape (measurements,).
      sharpness: For each run (measurements,), such as `history.probes["sharpness"].value`, or of
        repeated ones (runs, measurements). None where `steps` is what `fit` returned.
      limits: The stability limit of each, by its name, dashed in its colour; or one for all.
      relative: Draw the sharpness over its limit, which all of them then have at 1.
      ylabel: What was measured.
      yscale: "linear" or "log".
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `sharpness` is no mapping, or something in it is no array of real numbers.
      ValueError: If there is no curve, one has not a value a step, a limit is of no run,
        `relative` lacks one, or `fit` had no probe of sharpness or measured at other steps.

    Example:
      >>> ax = plot_sharpness([0, 10], {"sgd": [3.0, 20.0]}, limits={"sgd": 20.0})
      >>> [line.get_ydata() for line in ax.lines]
      [array([ 3., 20.]), [20.0, 20.0]]
    """
    caller = "plot_sharpness"
    if sharpness is None:
        steps, sharpness = measured_sharpness(caller, steps)
    require_named(caller, sharpness)
    steps = real_numbers(caller, "steps", steps, "(measurements,)", [1])
    found = {
        name: np.atleast_2d(real_numbers(caller, name, values, "(runs, measurements)", [1, 2]))
        for name, values in sharpness.items()
    }
    for name, runs in found.items():
        if runs.shape[1] != steps.size or not runs.size:
            raise ValueError(
                f"{caller} needs a value a measurement ({steps.size}), got shape {runs.shape} for "
                f"{name!r}."
            )
    is_shared = limits is not None and not isinstance(limits, Mapping)
    by_name = _by_name(caller, limits, list(found), relative)
    ax = axes_or_new(ax)
    every = {name: runs / by_name[name] if relative else runs for name, runs in found.items()}
    yscale = scale_for(yscale, *every.values())
    for i, (name, runs) in enumerate(every.items()):
        color = COLORS[i % len(COLORS)]
        runs = np.where(np.isfinite(runs), runs, np.nan)
        label = label_for(name, runs, yscale)
        (line,) = ax.plot(steps, _ignoring(np.nanmedian, runs), label=label, **look(i))
        line.set(marker="", linestyle="-")
        if len(runs) > 1:
            low, high = (_ignoring(pick, runs) for pick in (np.nanmin, np.nanmax))
            ax.fill_between(steps, low, high, color=color, alpha=BAND_ALPHA, linewidth=0)
        if name in by_name and not (relative or is_shared):
            ax.axhline(by_name[name], color=color, linestyle="--", label=f"limit of {name}")
    if relative or is_shared:
        height = 1.0 if relative else next(iter(by_name.values()))
        ax.axhline(height, color="black", linestyle="--", label="stability limit")
    set_scale(ax, "y", yscale)
    legend_below(ax, columns=3)
    ylabel = f"{ylabel} over its limit" if relative else ylabel
    return tidy(ax, xlabel="step", ylabel=ylabel, title=title)


def _by_name(caller: str, limits: Limits, names: list[str], relative: bool) -> dict[str, float]:
    """Return the limit of each run that has one."""
    given = {} if limits is None else limits
    if not isinstance(given, Mapping):
        given = dict.fromkeys(names, given)
    for name, limit in given.items():
        real_numbers(caller, f"limits[{name!r}]", limit, "()", [0])
        if name not in names:
            raise ValueError(f"{caller} needs limits of what it draws, got one of {name!r}.")
    missing = [name for name in names if name not in given]
    if relative and missing:
        raise ValueError(
            f"{caller} with relative=True needs all limits, got none of {missing[0]!r}."
        )
    return {name: float(np.asarray(limit)) for name, limit in given.items()}


def _ignoring(pick: Callable[..., np.ndarray], runs: np.ndarray) -> np.ndarray:
    """Reduce what is known of each step; NaN where that is nothing."""
    known = ~np.isnan(runs).all(axis=0)
    reduced = np.full(runs.shape[1], np.nan)
    reduced[known] = pick(runs[:, known], axis=0)
    return reduced
