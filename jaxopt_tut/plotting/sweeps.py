"""A sweep over two hyper-parameters as a heat map."""

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from jaxopt_tut.plotting.curves import plot_sensitivity
from jaxopt_tut.plotting.style import axes_or_new, legend_below, tidy
from jaxopt_tut.training import Sweep
from jaxopt_tut.trees import named_leaves


def plot_sweep(
    swept: Sweep,
    x: str,
    y: str | None = None,
    *,
    ylabel: str = "score",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the scores of a sweep over one hyper-parameter, or over two: a cell the mean over keys.

    Over one it is a curve, as `plot_sensitivity` draws it: median over the keys, a band, and both
    axes logarithmic where they can be.

    Where a sweep has more than two, a cell shows the best of the configurations that share it. A
    cross marks cells where none is finite, a ring the best one; cells without a configuration stay
    white. Colours are logarithmic where all scores are positive.

    Args:
      swept: What `sweep` returned.
      x: The name of the hyper-parameter along the axis of x, as in `swept.table()`.
      y: That along the axis of y; None for a curve over x alone.
      ylabel: What the score is, on the colour bar.
      title: Of the axes; the number of keys is added.
      ax: Where to draw.

    Returns:
      The axes; the colour bar is a neighbour in the same figure.

    Raises:
      TypeError: If `swept` is no sweep.
      ValueError: If there is no such hyper-parameter, or it is no number.

    Example:
      >>> import jax
      >>> from jaxopt_tut.training import grid, sweep
      >>> run = lambda h, key: (h["rate"] - 0.1) ** 2 + h["decay"] + jax.random.uniform(key)
      >>> configurations = grid(rate=[0.1, 1.0], decay=[0.0, 0.5, 0.9])
      >>> swept = sweep(run, configurations, keys=jax.random.split(jax.random.key(0), 2))
      >>> ax = plot_sweep(swept, "rate", "decay")
      >>> ax.images[0].get_array().shape, ax.get_xlabel()
      ((3, 2), 'rate')
    """
    if not isinstance(swept, Sweep):
        raise TypeError(f"plot_sweep needs a Sweep, got {type(swept).__name__}.")
    if y is None:
        return _curve(swept, x, ylabel, title, ax)
    columns, column_of = np.unique(_values(swept, x), return_inverse=True)
    rows, row_of = np.unique(_values(swept, y), return_inverse=True)
    means = swept.scores().mean(axis=1)
    cells = np.full((len(rows), len(columns)), np.nan)
    for row, column, mean in zip(row_of, column_of, means, strict=True):
        cells[row, column] = np.fmin(cells[row, column], mean)
    shown = np.where(np.isfinite(cells), cells, np.nan)
    ax = axes_or_new(ax, 5.8, 4.6)
    is_positive = np.isfinite(shown).any() and np.nanmin(shown) > 0
    # one colour more than there are numbers where all are equal, as a logarithm needs a range
    norm = LogNorm() if is_positive and np.nanmin(shown) < np.nanmax(shown) else None
    image = ax.imshow(shown, origin="lower", aspect="auto", cmap="viridis_r", norm=norm)
    ax.figure.colorbar(image, ax=ax, label=ylabel)
    spoilt = np.argwhere(np.isinf(cells))
    if len(spoilt):
        ax.plot(*spoilt.T[::-1], "x", color="0.4", markersize=8, label="not finite")
    if np.isfinite(cells).any():
        best = np.unravel_index(np.nanargmin(shown), cells.shape)
        (ring,) = ax.plot(best[1], best[0], "o", color="red", markersize=12, label="best")
        ring.set_markerfacecolor("none")
    ax.set_xticks(range(len(columns)), [f"{value:.3g}" for value in columns], fontsize="small")
    ax.set_yticks(range(len(rows)), [f"{value:.3g}" for value in rows], fontsize="small")
    if len(columns) > 6:
        ax.tick_params(axis="x", labelrotation=60)
    num = swept.done.shape[1]
    keys = f"mean over {num} keys" if num > 1 else "one key"
    tidy(ax, xlabel=x, ylabel=y, title=f"{title}\n({keys})" if title else keys)
    ax.grid(visible=False)
    if ax.get_legend_handles_labels()[0]:
        legend_below(ax)
    return ax


def _curve(swept: Sweep, x: str, ylabel: str, title: str, ax: Axes | None) -> Axes:
    """Draw scores over one hyper-parameter; where others vary too, the best of each value."""
    values, place = np.unique(_values(swept, x), return_inverse=True)
    scores = swept.scores()
    means = scores.mean(axis=1)
    best = [min(np.flatnonzero(place == i), key=lambda at: means[at]) for i in range(len(values))]
    if (values <= 0).any():
        raise ValueError(
            f"plot_sweep draws one hyper-parameter on a logarithmic axis, got {x!r} from "
            f"{values.min():g} on."
        )
    ax = plot_sensitivity(values, {ylabel: scores[best]}, ylabel=ylabel, title=title, ax=ax)
    ax.set_xlabel(x)
    return ax


def _values(swept: Sweep, name: str) -> Shaped[np.ndarray, "configurations"]:
    """Return the values of a hyper-parameter that is a number."""
    leaves = {known: np.asarray(leaf) for known, leaf in named_leaves(swept.hyperparameters)}
    numbers = [known for known, leaf in leaves.items() if leaf.ndim == 1]
    if name not in numbers:
        raise ValueError(
            f"plot_sweep needs the name of a hyper-parameter that is a number, got {name!r}; there "
            f"are {', '.join(numbers) or 'none'}."
        )
    return leaves[name]
