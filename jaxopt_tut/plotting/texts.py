"""Texts with a dollar: mathematics where it can be read as such, else the characters themselves."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

_PARSER = MathTextParser("path")


def literal_where_unreadable(texts: Iterable[Text]) -> None:
    """Show the characters of a text that is no mathematics, which fails when it is drawn."""
    for text in texts:
        if "$" in text.get_text() and not all(map(_is_readable, text.get_text().split("\n"))):
            text.set_parse_math(False)


def texts_of(ax: Axes) -> list[Text]:
    """Return what somebody may have named: title, labels, legend, notes."""
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
    if (legend := ax.get_legend()) is not None:
        texts += legend.get_texts()
    return texts


def literal_figure(figure: Figure) -> None:
    """Do so with all that a figure says."""
    named = [text for ax in figure.axes for text in texts_of(ax)]
    literal_where_unreadable([*figure.texts, *named])  # the title above all is one of its texts


def _is_readable(line: str) -> bool:
    if not is_math_text(line):
        return True
    try:
        _PARSER.parse(line)
    except ValueError:
        return False
    return True
