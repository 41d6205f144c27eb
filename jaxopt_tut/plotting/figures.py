"""Figures that notebooks show: the last line of a cell may be a figure or any of its axes.

Without pyplot nothing tells a notebook that there is a figure. IPython asks an object itself for
`_repr_png_`, so figures and axes have one here; no figure is kept alive for it. Where somebody has
told IPython how to show figures, as `%matplotlib inline` does, axes follow their figure.
"""

import io
import sys
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure, FigureBase, SubFigure
from mpl_toolkits.mplot3d import Axes3D

from jaxopt_tut.plotting.logs import label_logs
from jaxopt_tut.plotting.texts import literal_figure

_SCALE = 1.6
"""Pixels of a picture for each pixel it takes up: sharp on the screens of today, and small."""


class _Shown:
    """What a notebook shows as the picture of the whole figure."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture and the pixels that it takes up."""
        figure = self.get_figure(root=True)  # pyright: ignore[reportAttributeAccessIssue]
        width, height = (round(inches * figure.dpi) for inches in figure.get_size_inches())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_SCALE * figure.dpi, metadata={"Software": None})
        return file.getvalue(), {"width": width, "height": height}


class _Part(_Shown):
    """What a notebook shows as it shows the figure it is in."""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return what IPython makes of the figure, in the formats and sizes that are set there."""
        ipython = sys.modules.get("IPython")  # which is there if it asks
        shell = None if ipython is None else ipython.get_ipython()
        if shell is None:
            return None
        figure = self.get_figure(root=True)  # pyright: ignore[reportAttributeAccessIssue]
        data, metadata = shell.display_formatter.format(figure)
        return {kind: part for kind, part in data.items() if kind != "text/plain"}, metadata


class ShownAxes(_Part, Axes):
    """Axes in a plane."""


class ShownAxes3D(_Part, Axes3D):
    """Axes in space."""

    name = Axes3D.name


class _Showing(_Shown, FigureBase):
    """What makes axes, and parts with axes, that are shown as the whole figure."""

    def add_subplot(self, *args: Any, **kwargs: Any) -> Axes:
        """Add axes to a grid, as matplotlib's; all other ways to subplots end here."""
        return super().add_subplot(*args, **_showing(kwargs))

    def add_axes(self, *args: Any, **kwargs: Any) -> Axes:
        """Add axes at a place, as matplotlib's."""
        return super().add_axes(*args, **_showing(kwargs))

    def add_subfigure(self, *args: Any, **kwargs: Any) -> SubFigure:
        """Add a part with a layout of its own, as matplotlib's; `subfigures` ends here."""
        part = super().add_subfigure(*args, **kwargs)
        part.__class__ = ShownSubFigure  # matplotlib asks nobody which class a part shall have
        return part


class ShownFigure(_Showing, Figure):
    """A figure whose axes and parts, too, are shown as the whole of it."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw it as matplotlib does, with plain numbers, and what is no mathematics as it is."""
        label_logs(self)
        literal_figure(self)
        super().draw(renderer)


class ShownSubFigure(_Part, _Showing, SubFigure):
    """A part of a figure."""


def _showing(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Ask for axes that are shown, unless somebody asks for a class or a projection of his own."""
    known = {None: ShownAxes, "rectilinear": ShownAxes, "3d": ShownAxes3D}
    projection = kwargs.get("projection")
    own = kwargs.get("axes_class") or kwargs.get("polar") or not isinstance(projection, str | None)
    if own or projection not in known:
        return kwargs
    kept = {name: value for name, value in kwargs.items() if name not in ("projection", "polar")}
    return {**kept, "axes_class": known[projection]}
