"""The eigenvalues of curvature: their density, and those at the ends of the spectrum by layer."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from typing_extensions import TypeAliasType

from jaxopt_tut.curvature import Density, Eigenpairs
from jaxopt_tut.plotting.numbers import (
    Numbers,
    label_for,
    real_numbers,
    require_named,
    scale_for,
    set_scale,
)
from jaxopt_tut.plotting.style import BAND_ALPHA, COLORS, axes_or_new, legend_below, look, tidy

Spectra = TypeAliasType("Spectra", Eigenpairs | Mapping[str, Eigenpairs | Numbers])
"""Eigenvalues, or several by name, such as those of the layers."""


def plot_density(
    density: Density,
    *,
    exact: Numbers | None = None,
    level: float = 0.95,
    xlabel: str = "eigenvalue",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a density of eigenvalues on a logarithmic axis, with its band and stems at outliers.

    A stem ends at the height of the peak that the outlier has: the mass of one eigenvalue.

    Args:
      density: What `spectral_density` returned.
      exact: All eigenvalues where they are known, smoothed in the same way and drawn beside it.
      level: Probability of the band.
      xlabel: Of what they are eigenvalues.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `density` is none.
      ValueError: If `level` is not in (0, 1).

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.curvature import linear_map, spectral_density
      >>> op = linear_map(lambda v, d: d * v, jnp.zeros(20), jnp.arange(20.0))
      >>> ax = plot_density(spectral_density(op, jax.random.key(0), deflate=2))
      >>> ax.get_yscale(), [text.get_text() for text in ax.get_legend().get_texts()]
      ('log', ['8 probes', '95 % interval', '2 outliers'])
    """
    if not isinstance(density, Density):
        raise TypeError(f"plot_density needs a Density, got {type(density).__name__}.")
    grid, mean = (np.asarray(part, float) for part in (density.grid, density.mean))
    low, high = (np.asarray(end, float) for end in density.interval(level))
    ax = axes_or_new(ax)
    width, color = float(density.width), COLORS[0]
    width = width if width > 0 else 1.0  # NaN where a product was not finite
    peak = 1 / (density.size * width * np.sqrt(2 * np.pi))
    floor = peak / 100  # far below what a single eigenvalue is worth
    visible = np.where(np.isfinite(mean), np.maximum(mean, floor), np.nan)
    ax.plot(grid, visible, color=color, label=f"{density.degrees + 1} probes")
    ax.fill_between(
        grid,
        np.maximum(low, floor),
        np.maximum(high, floor),
        color=color,
        alpha=BAND_ALPHA,
        linewidth=0,
        label=f"{100 * level:g} % interval",
    )
    if exact is not None:
        values = real_numbers("plot_density", "exact", exact, "(eigenvalues,)", [1])
        away = (grid[:, None] - values) / width
        true = np.exp(-(away**2) / 2).sum(axis=1) * peak * density.size / len(values)
        ax.plot(grid, np.maximum(true, floor), color="black", linestyle=":", label="exact")
    outliers = np.zeros(0) if density.outliers is None else np.asarray(density.outliers.values)
    if len(outliers):
        count = f"{len(outliers)} outlier{'s' if len(outliers) > 1 else ''}"
        ax.vlines(outliers, floor, peak, color=COLORS[1], linewidth=1.2, label=count)
        ax.plot(outliers, np.full(len(outliers), peak), "o", color=COLORS[1], markersize=3.5)
    ax.set_yscale("log")
    ax.set_ylim(bottom=floor)
    legend_below(ax, columns=4)
    return tidy(ax, xlabel=xlabel, ylabel="density", title=title)


def plot_eigenvalues(
    spectra: Spectra,
    *,
    yscale: str = "linear",
    ylabel: str = "eigenvalue",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw eigenvalues by their rank, a curve a layer.

    Those that had not converged are drawn hollow.

    Args:
      spectra: What `top_eigenpairs` returned; or, for each name, that or eigenvalues alone.
      yscale: "linear" or "log", which leaves out what is not positive.
      ylabel: Of what they are eigenvalues.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `spectra` is no mapping, or something in it is no array of real numbers.
      ValueError: If there is nothing in it.

    Example:
      >>> ax = plot_eigenvalues({"first": [3.0, 1.0], "second": [2.0]})
      >>> [line.get_ydata().tolist() for line in ax.lines]
      [[3.0, 1.0], [2.0]]
    """
    caller = "plot_eigenvalues"
    is_one = isinstance(spectra, Eigenpairs)
    named = {"eigenvalues": spectra} if is_one else spectra
    require_named(caller, named)
    found = {}
    for name, given in named.items():
        values = given.values if isinstance(given, Eigenpairs) else given
        values = real_numbers(caller, name, values, "(eigenvalues,)", [1])
        flags = given.converged if isinstance(given, Eigenpairs) else np.isfinite(values)
        found[name] = np.where(np.isfinite(values), values, np.nan), np.asarray(flags)
    ax = axes_or_new(ax)
    yscale = scale_for(yscale, *(values for values, _ in found.values()))
    for i, (name, (values, flags)) in enumerate(found.items()):
        ranks = np.arange(1, len(values) + 1)
        ax.plot(ranks, values, label=label_for(name, values, yscale), **look(i))
        open_ = ~flags
        if open_.any():
            ax.scatter(
                ranks[open_], values[open_], s=18, zorder=3, c="white", edgecolors=COLORS[i % 7]
            )
    set_scale(ax, "y", yscale)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not is_one:
        legend_below(ax, columns=3)
    return tidy(ax, xlabel="rank", ylabel=ylabel, title=title)
