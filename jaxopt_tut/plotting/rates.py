"""The learning rate that a short training finds."""

import numpy as np
from matplotlib.axes import Axes

from jaxopt_tut.plotting.numbers import set_scale
from jaxopt_tut.plotting.style import BAND_ALPHA, COLORS, axes_or_new, legend_below, tidy
from jaxopt_tut.training import RateRange


def plot_rate_range(found: RateRange, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the loss while the rate rises, a line a seed, and the rates that are suggested.

    Vertical lines mark the suggestion, and a band the range of those of the seeds; a ring on each
    line marks its minimum. The loss is drawn up to where it leaves the range it began in.

    Args:
      found: What `find_learning_rate` returned.
      title: Of the axes; the suggestion is added.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `found` is something else.

    Example:
      >>> rates = np.geomspace(0.01, 10.0, 4)
      >>> losses = np.array([[2.0, 1.5, 1.0, 9.0]])
      >>> found = RateRange(rates, losses, 0.1, 1.0, np.array([0.1]), losses)
      >>> ax = plot_rate_range(found)
      >>> ax.get_xlabel(), ax.lines[0].get_ydata().tolist()
      ('learning rate', [2.0, 1.5, 1.0, 9.0])
    """
    if not isinstance(found, RateRange):
        raise TypeError(f"plot_rate_range needs RateRange as found, got {type(found).__name__}.")
    ax = axes_or_new(ax)
    for i, (losses, smoothed) in enumerate(zip(found.losses, found.smoothed, strict=True)):
        label = f"{len(found.losses)} seeds" if len(found.losses) > 1 else "one seed"
        ax.plot(found.rates, losses, color=COLORS[0], alpha=0.5, label=label * (not i) or None)
        if np.isfinite(smoothed).any():
            best = np.nanargmin(smoothed)
            label = "minimum of each, smoothed" * (not i) or None
            (ring,) = ax.plot(found.rates[best], losses[best], "o", color=COLORS[0], label=label)
            ring.set_markerfacecolor("none")
    kept = found.suggestions[np.isfinite(found.suggestions)]
    if kept.size:
        ax.axvspan(kept.min(), kept.max(), color=COLORS[1], alpha=BAND_ALPHA, linewidth=0)
        ax.axvline(found.suggestion, color=COLORS[1], linestyle="--", label="suggestion")
    set_scale(ax, "x", "log")
    finite = found.losses[np.isfinite(found.losses)]
    is_positive = bool(finite.size) and finite.min() > 0
    set_scale(ax, "y", "log" if is_positive else "linear")
    if finite.size:  # as far up as it began, and somewhat further
        low, high = finite.min(), np.nanmax(found.losses[:, 0])
        room = high * (high / low) ** 0.3 if is_positive else high + 0.3 * (high - low)
        if room > high:
            ax.set_ylim(top=room)
    legend_below(ax, columns=3)
    suggestion = f"{found.suggestion:.2g}, within a factor of {found.spread:.2g}"
    title = f"{title}\n(suggested: {suggestion})".lstrip()
    return tidy(ax, xlabel="learning rate", ylabel="loss", title=title)
