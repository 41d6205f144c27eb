"""How figures look: curves that differ in colour, dash and marker, labelled axes, a light grid."""

import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import ScaledTranslation

from jaxopt_tut.plotting.figures import ShownFigure
from jaxopt_tut.plotting.palette import COLORS
from jaxopt_tut.plotting.texts import literal_where_unreadable, texts_of

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 2)))
BAND_ALPHA = 0.18
_BELOW = "below"
_OF_MATPLOTLIB = re.compile(r"_(child|container)\d+|_nolegend_|_")


def look(index: int) -> dict[str, Any]:
    """Return the colour, line and marker of the curve with this index, for `Axes.plot`.

    All three change with it, so that curves differ in grey print too.
    """
    i = index % len(COLORS)
    return {"color": COLORS[i], "linestyle": LINES[i], "marker": MARKERS[i], "markersize": 4}


def new_figure(width: float = 6.4, height: float = 4.2) -> Figure:
    """Build an empty figure that lays out its panels without overlap.

    In a notebook it is shown where it, or one of its axes, is the last line of a cell.

    Args:
      width: In inches.
      height: In inches.

    Returns:
      A figure outside pyplot's state: nothing keeps it alive or has to close it.

    Example:
      >>> new_figure(3.0, 2.0).get_size_inches().tolist()
      [3.0, 2.0]
    """
    # wider than by default, where the label of one panel touches the next
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    return ShownFigure(figsize=(width, height), layout=layout)


def axes_or_new(ax: Axes | None, width: float = 6.4, height: float = 4.2, **kwargs: Any) -> Axes:
    """Return the axes given, or those of a new figure."""
    return new_figure(width, height).add_subplot(**kwargs) if ax is None else ax


def tidy(ax: Axes, *, xlabel: str, ylabel: str, title: str = "") -> Axes:
    """Label the axes and give them a light grid behind the data."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize="medium")
    literal_where_unreadable(texts_of(ax))
    _put_below(ax)
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def small_ticks(ax: Axes) -> None:
    """Label one panel of many: few ticks, and powers of ten beside the axis."""
    ax.tick_params(labelsize="x-small")
    ax.locator_params(axis="x", nbins=4)
    ax.ticklabel_format(axis="both", style="sci", scilimits=(-2, 3))
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize("x-small")


def legend_below(ax: Axes, columns: int = 4) -> None:
    """Put the legend under the axes, where it covers no data however the curves run."""
    for artist in (*ax.lines, *ax.containers, *ax.collections):
        label = str(artist.get_label())
        # matplotlib hides a name with this first, and gives such names to what has none
        if label.startswith("_") and not _OF_MATPLOTLIB.fullmatch(label):
            artist.set_label(f"\N{ZERO WIDTH SPACE}{label}")
    handles = ax.get_legend_handles_labels()[0]
    legend = ax.legend(
        loc="upper center",
        borderaxespad=0.8,
        fontsize="small",
        frameon=False,
        ncols=min(columns, len(handles)),
    )
    legend.set_label(_BELOW)
    if ax.get_xlabel():
        _put_below(ax)


def _put_below(ax: Axes) -> None:
    """Put such a legend right under ticks and label, however low the axes and tall the ticks."""
    legend = ax.get_legend()
    if legend is None or legend.get_label() != _BELOW:
        return
    under = ax.xaxis.get_tightbbox()
    depth = 0.0 if under is None else ax.bbox.y0 - under.y0
    below = ScaledTranslation(0.0, -depth / ax.figure.dpi, ax.figure.dpi_scale_trans)
    legend.set_bbox_to_anchor((0.5, 0.0), transform=ax.transAxes + below)
