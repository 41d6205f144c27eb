"""The same figure on a dark page: greys are turned over, colours taken from a lighter set.

Nothing is laid out or drawn anew in other places: only colours change, and only for a while. What
lies on an image keeps its colours, as the image keeps its own.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb, to_rgba, to_rgba_array
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.spines import Spine
from matplotlib.text import Annotation, Text

from jaxopt_tut.plotting.palette import COLORS, COLORS_ON_DARK, DARK_PAGE, LIGHT_INK, contrast

_TURNED = {light.lower(): dark for light, dark in zip(COLORS, COLORS_ON_DARK, strict=True)}
_RGB = tuple[float, float, float]

_LEAST, _LEAST_OF_TEXT = 3.0, 4.5
"""The contrast that graphics and small text need (WCAG 2.2, 1.4.11 and 1.4.3)."""

_GREY = 0.06
"""How far the channels of a grey may lie apart."""


@contextlib.contextmanager
def darkened(figure: Figure) -> Iterator[None]:
    """Give a figure its colours on a dark page, and back those it had."""
    undo: list[tuple[Callable[[Any], Any], Any]] = []
    try:
        for artist, turn in _artists(figure):
            _recolour(artist, turn, undo)
        yield
    finally:
        for setter, old in reversed(undo):
            setter(old)


def on_dark(color: Any, least: float = _LEAST) -> tuple[float, float, float, float]:
    """Return what stands for a colour on a dark page, with the same opacity.

    A grey is turned over, between the page and the ink; a colour of the palette becomes its
    partner; these and any other are made lighter until their contrast is the least.
    """
    rgb, alpha = to_rgb(color), to_rgba(color)[3]
    partner = _TURNED.get(to_hex(rgb).lower())
    if partner is None and max(rgb) - min(rgb) < _GREY:
        return (*_between(to_rgb(LIGHT_INK), to_rgb(DARK_PAGE), sum(rgb) / 3), alpha)
    rgb = to_rgb(partner) if partner is not None else rgb
    while _hardly_seen(rgb, least):
        rgb = _between(rgb, (1.0, 1.0, 1.0), 0.1)
    return (*rgb, alpha)


def _of_text(color: Any) -> tuple[float, float, float, float]:
    return on_dark(color, _LEAST_OF_TEXT)


def _between(first: _RGB, second: _RGB, share: float) -> _RGB:
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def _hardly_seen(color: Any, least: float = _LEAST) -> bool:
    return contrast(to_hex(color), DARK_PAGE) < least


def _visible_on_dark(color: Any) -> tuple[float, float, float, float]:
    """Keep a colour that is seen on a dark page: a legend of what lies on an image."""
    return on_dark(color) if _hardly_seen(color) else to_rgba(color)


def _artists(figure: Figure) -> Iterator[tuple[Artist, Callable]]:
    """Yield what carries a colour, and how its colours are turned."""
    yield figure.patch, on_dark
    for text in [*figure.texts, *_titles(figure)]:
        yield text, on_dark
    for artist in [*figure.lines, *figure.patches, *figure.legends]:
        for part in artist.findobj():
            yield part, on_dark
    for ax in figure.axes:
        yield from _of_axes(ax)


def _titles(figure: Figure) -> list[Text]:
    """Return the texts of a figure's own that are not in its list: none twice, or it turns back."""
    own = (getattr(figure, name, None) for name in ("_suptitle", "_supxlabel", "_supylabel"))
    return [text for text in own if text is not None and text not in figure.texts]


def _of_axes(ax: Axes) -> Iterator[tuple[Artist, Callable]]:
    on_image = _has_image(ax)
    yield ax.patch, on_dark
    for artist in ax.get_children():
        if artist is ax.patch or artist in ax.child_axes:
            continue
        if isinstance(artist, Legend):
            for part in _parts(artist):
                is_sample = on_image and not isinstance(part, Text)
                yield part, _visible_on_dark if is_sample else on_dark
        elif artist in (ax.title, ax._left_title, ax._right_title) or isinstance(artist, Spine):  # pyright: ignore[reportAttributeAccessIssue]
            yield artist, on_dark
        elif _is_axis(artist):
            yield from ((part, on_dark) for part in artist.findobj())
            # what draws the panes of axes in space is no child of theirs
            yield from ((part, on_dark) for part in _panes(artist))
        elif not on_image:
            yield from ((part, on_dark) for part in _parts(artist))
    for child in ax.child_axes:
        yield from _of_axes(child)  # pyright: ignore[reportArgumentType]


def _has_image(ax: Axes) -> bool:
    """Tell whether an image or a map fills the axes."""
    filled = (
        isinstance(part, QuadMesh) or (isinstance(part, ContourSet) and part.filled)
        for part in ax.collections
    )
    return bool(ax.images) or any(filled)


def _is_axis(artist: Artist) -> bool:
    return hasattr(artist, "get_major_ticks")


def _panes(axis: Any) -> Iterable[Artist]:
    return [getattr(axis, name) for name in ("pane", "line") if hasattr(axis, name)]


def _parts(artist: Artist) -> Iterator[Artist]:
    """Yield an artist and what it is made of, with the box and the arrow of a text."""
    for part in artist.findobj():
        yield part
        if isinstance(part, Text) and part.get_bbox_patch() is not None:
            yield part.get_bbox_patch()  # pyright: ignore[reportReturnType]
        if isinstance(part, Annotation) and part.arrow_patch is not None:
            yield part.arrow_patch


def _recolour(artist: Artist, turn: Callable, undo: list) -> None:
    """Turn the colours of one artist, noting how to turn them back."""

    def change(name: str, turned: Callable[[Any], Any]) -> None:
        getter, setter = getattr(artist, f"get_{name}"), getattr(artist, f"set_{name}")
        old = getter()
        new = turned(old)
        if not np.array_equal(new, old):
            undo.append((setter, old))
            setter(new)

    def one(color: Any) -> Any:
        is_color = not isinstance(color, str) or color not in ("auto", "none", "face")
        return turn(color) if is_color else color

    if isinstance(artist, Text):
        change("color", _of_text)
    elif isinstance(artist, Line2D):
        faces = artist.get_markerfacecolor(), artist.get_markeredgecolor()
        change("color", one)
        # what follows the line has changed with it; what has a colour of its own is still to turn
        for name, old in zip(("markerfacecolor", "markeredgecolor"), faces, strict=True):
            if np.array_equal(getattr(artist, f"get_{name}")(), old):
                change(name, one)
    elif isinstance(artist, Patch):
        for name in ("edgecolor", "facecolor"):
            change(name, one)
    elif isinstance(artist, Collection) and not hasattr(artist, "do_3d_projection"):

        def each(colors: Any) -> Any:
            return np.array([turn(c) for c in to_rgba_array(colors)]) if len(colors) else colors

        # what stands for numbers has the colours of its scale: of lines these are their edges
        is_mapped = artist.get_array() is not None
        if not is_mapped:
            change("facecolor", each)
        if not is_mapped or isinstance(artist, PathCollection | PolyCollection):
            change("edgecolor", each)
