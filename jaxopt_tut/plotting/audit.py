"""Modes of differentiation beside each other: what each costs, and how wrong it is."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from jaxopt_tut.bilevel import AuditRow
from jaxopt_tut.plotting.numbers import set_scale
from jaxopt_tut.plotting.style import COLORS, MARKERS, axes_or_new, legend_below, tidy


def plot_audit(rows: Sequence[AuditRow], *, title: str = "", ax: Axes | None = None) -> Axes:
    r"""Draw the bias of each mode against the memory it takes, both logarithmic.

    $$\text{bias} = \frac{\lVert g - g^* \rVert}{\lVert g^* \rVert}$$

    The legend adds the time and the cosine to the truth. A mode without any bias is drawn at the
    rounding error of double precision.

    Args:
      rows: What `bilevel.audit` returned.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes.

    Raises:
      TypeError: If `rows` is no list of rows.
      ValueError: If there is no row.

    Example:
      >>> row = AuditRow("exact", {}, 0.0, 1.0, 4096, 0.002, None)
      >>> ax = plot_audit([row])
      >>> ax.lines[0].get_xdata().tolist(), ax.get_legend().get_texts()[0].get_text()
      ([4096], 'exact: 2 ms, cosine 1')
    """
    is_list = isinstance(rows, Sequence) and not isinstance(rows, AuditRow)
    if not is_list or not all(isinstance(row, AuditRow) for row in rows):
        raise TypeError(f"plot_audit needs the rows of an audit, got {type(rows).__name__}.")
    if not rows:
        raise ValueError("plot_audit needs a row at least, got none.")
    eps = np.finfo(np.float64).eps
    ax = axes_or_new(ax)
    for i, row in enumerate(rows):
        ax.plot(
            [row.bytes],
            [np.maximum(row.bias, eps)],
            label=f"{row.name}: {1e3 * row.seconds:.2g} ms, cosine {row.cosine:.3g}",
            linestyle="",
            color=COLORS[i % len(COLORS)],
            # colour and marker have periods that differ, so that many modes stay distinct
            marker=MARKERS[(i + i // len(COLORS)) % len(MARKERS)],
            markersize=8,
        )
    set_scale(ax, "x", "log")
    set_scale(ax, "y", "log")
    legend_below(ax, columns=2)
    return tidy(ax, xlabel="temporary memory, bytes", ylabel="relative bias", title=title)
