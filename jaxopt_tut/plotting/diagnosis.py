"""A diagnosis as a picture: histograms of every layer and a profile over the layers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxopt_tut.diagnostics import Diagnosis, Histogram
from jaxopt_tut.plotting.layers import plot_profile
from jaxopt_tut.plotting.numbers import Numbers
from jaxopt_tut.plotting.style import COLORS, new_figure, small_ticks

_ROWS = {
    "weights": "weights",
    "pre_activations": "pre-activations",
    "activations": "activations",
    "cotangents": "cotangents",
    "weight_gradients": "weight gradients",
}
_MAX_PANELS = 8


def plot_diagnosis(diagnosis: Diagnosis, *, figure: Figure | None = None) -> Figure:
    r"""Draw a row of histograms for each quantity, one panel a layer, and a profile below.

    $$\hat p_k = \frac{n_k}{\Delta \sum_k n_k}, \qquad
      v_l = \operatorname{Var} z_l, \; \operatorname{Var} a_l, \; \operatorname{Var} \delta_l$$

    Histograms are those of the samples of 4096 values. Of more than eight layers, or steps of a
    scan, eight are drawn, evenly spread; the profile on its logarithmic axis shows all. Panels of
    layers with a verdict have red titles.

    Args:
      diagnosis: What `diagnostics.diagnose` returned.
      figure: Where to draw; a new figure by default. (A row of panels has no single `ax`.)

    Returns:
      The figure, its axes in reading order, the profile last.

    Raises:
      TypeError: If it is something else.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.diagnostics import diagnose
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> weight = jax.random.normal(jax.random.key(1), (8, 4)) / 3
      >>> figure = plot_diagnosis(diagnose(lambda w, x: jnp.mean((x @ w) ** 2), weight, x))
      >>> len(figure.axes)  # five quantities of one layer, and the profile
      6
    """
    if not isinstance(diagnosis, Diagnosis):
        raise TypeError(f"plot_diagnosis needs a Diagnosis, got {type(diagnosis).__name__}.")
    places = [
        (name, index)
        for name, layer in diagnosis.layers.items()
        for index in np.ndindex(*np.shape(layer.correlation))
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, _MAX_PANELS).round().astype(int))
    shown = [places[i] for i in chosen]
    if figure is None:
        figure = new_figure(2.3 * max(len(shown), 3), 1.6 * len(_ROWS) + 3.4)
    grid = figure.add_gridspec(len(_ROWS) + 1, len(shown), height_ratios=[1.0] * len(_ROWS) + [1.7])
    sick = {verdict.layer for verdict in diagnosis.verdicts}
    for i, (field, label) in enumerate(_ROWS.items()):
        for j, (name, index) in enumerate(shown):
            ax = figure.add_subplot(grid[i, j])
            summary = getattr(diagnosis.layers[name], field)
            _histogram(ax, summary.histogram, index, COLORS[i % len(COLORS)])
            variance = _at(summary.variance, index)
            text = f"Var {variance:.2g}"
            ax.text(
                0.97, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize="x-small"
            )
            small_ticks(ax)
            if i == 0:
                title = name + (f"[{','.join(map(str, index))}]" if index else "")
                color = "#B00000" if title in sick else "black"
                ax.set_title(title, fontsize="small", color=color)
            if j == 0:
                ax.set_ylabel(label, fontsize="small")
    curves = {
        _ROWS[field]: [
            _at(getattr(diagnosis.layers[name], field).variance, index) for name, index in places
        ]
        for field in ("pre_activations", "activations", "cotangents")
    }
    positive = {name: np.where(np.array(v) > 0, v, np.nan) for name, v in curves.items()}
    title = "variance, layer by layer"
    if sick:
        title += "; above, layers with a verdict have red names"
    plot_profile(positive, ax=figure.add_subplot(grid[-1, :]), title=title)
    return figure


def _at(array: Numbers, index: tuple[int, ...]) -> float:
    numbers = np.asarray(array)
    return float(numbers[index[: numbers.ndim]])


def _histogram(ax: Axes, histogram: Histogram, index: tuple[int, ...], color: str) -> None:
    """Draw one panel; values that agree to rounding are a line."""
    counts, edges = (np.asarray(part, np.float64) for part in histogram)
    counts, edges = counts[index[: counts.ndim - 1]], edges[index[: edges.ndim - 1]]
    if counts.sum() and np.ptp(edges) > 1e-6 * np.abs(edges).max():
        density = counts / counts.sum() / (edges[1] - edges[0])
        ax.stairs(density, edges, fill=True, color=color, alpha=0.75)
        ax.set_ylim(0, 1.3 * density.max())  # room for the text above the bars
    else:
        ax.axvline(edges[0], color=color, linewidth=2)
        ax.set_ylim(0, 1)
        ax.set_yticks([])
