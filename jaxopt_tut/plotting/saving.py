"""Figures as files: PNG and SVG, for white and for dark pages, the same bytes each time."""

import re
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from jaxopt_tut.plotting.dark import darkened
from jaxopt_tut.plotting.logs import label_logs


def save_figure(
    figure: Figure,
    path: str | Path,
    *,
    dpi: int = 130,
    description: str = "",
    dark: bool = True,
) -> tuple[Path, Path]:
    """Write a figure as PNG and as SVG, for white and for dark pages, the same bytes each time.

    Beside `NAME.png` and `NAME.svg` come `NAME.dark.png` and `NAME.dark.svg` of the same size. Both
    pairs bring their own background, so that each can be read anywhere; a page picks by

        <picture><source srcset="NAME.dark.png" media="(prefers-color-scheme: dark)">
        <img src="NAME.png" alt="..."></picture>

    Text keeps a contrast of 4.5 or more, curves one of 3 or more, on both. What lies on an image
    keeps its colours there. Every SVG has a `<title>`, that of the figure, and a `<desc>`.
    Matplotlib salts the names inside an SVG at random and stamps the date; both are fixed here.

    Args:
      figure: What to write.
      path: Where, without suffix.
      dpi: Dots per inch of the PNG and of the images inside the SVG.
      description: What the figure shows, for those who do not see it; by default what its axes and
        curves are called.
      dark: Whether to write the dark ones.

    Returns:
      The PNG and the SVG for white pages.

    Example:
      >>> import tempfile
      >>> from jaxopt_tut.plotting import new_figure
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = save_figure(new_figure(), Path(folder) / "empty")
      ...     sorted(file.name for file in Path(folder).iterdir())
      ['empty.dark.png', 'empty.dark.svg', 'empty.png', 'empty.svg']
    """
    path = Path(path)
    # Laid out once for all files: that is what takes longest in a figure of many panels.
    label_logs(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    title = _title(figure) or path.name.replace("_", " ")
    said = description or _names(figure) or title
    light = _write(figure, path.with_name(path.name), dpi, title, said)
    if dark:
        with darkened(figure):
            _write(figure, path.with_name(f"{path.name}.dark"), dpi, title, said)
    return light


def _write(figure: Figure, stem: Path, dpi: int, title: str, said: str) -> tuple[Path, Path]:
    png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    with matplotlib.rc_context({"svg.hashsalt": "jaxopt_tut"}):
        figure.savefig(png, dpi=dpi, metadata={"Software": None})
        figure.savefig(svg, dpi=dpi, metadata={"Date": None, "Creator": None, "Title": title})
    text = svg.read_text(encoding="utf-8")
    text = text.replace("<svg ", '<svg role="img" ', 1)
    text = text.replace("</title>", f"</title>\n <desc>{escape(said)}</desc>", 1)
    svg.write_text(text, encoding="utf-8")
    return png, svg


def _title(figure: Figure) -> str:
    """Return the title of a figure, or those of its axes."""
    titles = [figure.get_suptitle() or "", *(ax.get_title() for ax in figure.axes)]
    found = [_plain(title) for title in titles if title.strip()]
    return found[0] if titles[0].strip() else "; ".join(dict.fromkeys(found))


def _names(figure: Figure) -> str:
    """Return what the axes and curves are called: all that a figure says of itself."""
    said = dict.fromkeys(_panel(ax) for ax in figure.axes if ax.get_label() != "<colorbar>")
    return " ".join(text for text in said if text)


def _panel(ax: Axes) -> str:
    x, y = _plain(ax.get_xlabel()), _plain(ax.get_ylabel())
    z = _plain(ax.get_zlabel()) if isinstance(ax, Axes3D) else ""
    names = [z, f"{x} and {y}"] if z else [y, x]
    axes = " against ".join(name for name in names if name)
    curves = ", ".join(_plain(name) for name in ax.get_legend_handles_labels()[1])
    said = ": ".join(part for part in (axes, curves) if part)
    return f"{said}." if said else ""


def _plain(text: str) -> str:
    """Return a label in one line, without the marks of mathematics."""
    return " ".join(re.sub(r"[${}]|\\mathrm|\\(?=[a-z])", "", text).split())
