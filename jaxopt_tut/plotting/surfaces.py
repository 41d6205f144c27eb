"""A loss of two parameters, from above with the paths taken on it, and in three dimensions."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from typing_extensions import TypeAliasType

from jaxopt_tut.landscape import Trajectory
from jaxopt_tut.landscape.surfaces import Surface
from jaxopt_tut.optimizers import History, Solution
from jaxopt_tut.plotting.numbers import Numbers, optional_named, real_numbers
from jaxopt_tut.plotting.results import path_points
from jaxopt_tut.plotting.style import COLORS, MARKERS, axes_or_new, legend_below, tidy
from jaxopt_tut.types import Scalar

Loss = TypeAliasType("Loss", Callable[[Array], Scalar])
"""A real function of one point, an array of shape (2,)."""

Domain = TypeAliasType("Domain", tuple[Numbers, Numbers])
"""The lower and the upper corner of a box."""

Path = TypeAliasType("Path", Numbers | Trajectory | Solution | History)
"""Points in an array, what `descend` returned, or a search of `minimize(..., history=True)`."""

Paths = TypeAliasType("Paths", Mapping[str, Path])
"""Points by the name of who visited them."""


def plot_surface(
    fun: Loss | Surface,
    domain: Domain | Paths | None = None,
    paths: Paths | None = None,
    *,
    resolution: int = 200,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a loss of two parameters as an image, and the path of every optimizer on it.

    A ring marks the end of each path. The view stays the domain: a path that leaves it is cut at
    the border.

    Args:
      fun: Maps a point of shape (2,) to the loss; or a surface of two parameters.
      domain: Lower and upper corner of the view, shape (2,) each. A surface has its own, so that
        its paths may stand here.
      paths: For each optimizer its points, shape (points, 2), the start first; or what `descend`
        returned, or `minimize` with `history=True`.
      resolution: Pixels a side; the loss is evaluated at its square.
      title: Of the axes.
      ax: Where to draw.

    Returns:
      The axes; the colour bar is a neighbour in the same figure.

    Raises:
      TypeError: If `fun` is no function, or a path no array of real numbers.
      ValueError: If the corners are missing or have not two coordinates, or a path has another
        shape.

    Example:
      >>> import jax.numpy as jnp
      >>> ax = plot_surface(lambda w: w[0] + w[1], ([0, 0], [1, 1]), {"sgd": [[0, 0], [1, 1]]})
      >>> ax.get_xlabel(), ax.lines[0].get_xdata().tolist()
      ('$w_1$', [0.0, 1.0])
    """
    caller = "plot_surface"
    if isinstance(fun, Surface) and isinstance(domain, Mapping):
        domain, paths = None, domain
    given = optional_named(caller, "paths", paths)
    points = {name: _points(caller, name, path) for name, path in given.items()}
    first, second, values = _grid(caller, fun, domain, resolution)
    ax = axes_or_new(ax, 5.8, 4.6)
    extent = (first[0], first[-1], second[0], second[-1])
    image = ax.imshow(values, origin="lower", extent=extent, aspect="auto", cmap="Greys_r")
    ax.figure.colorbar(image, ax=ax, label="loss")
    for i, (name, path) in enumerate(points.items()):
        color = COLORS[i % len(COLORS)]
        ax.plot(
            *path.T,
            label=name,
            color=color,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            linewidth=1.2,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
        ax.plot(*path[-1:].T, color=color, marker="o", markersize=11, markerfacecolor="none")
    ax.set_xlim(extent[:2])
    ax.set_ylim(extent[2:])
    tidy(ax, xlabel="$w_1$", ylabel="$w_2$", title=title)
    ax.grid(visible=False)
    if paths:
        legend_below(ax)
    return ax


def plot_surface_3d(
    fun: Loss | Surface,
    domain: Domain | None = None,
    *,
    resolution: int = 70,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a loss of two parameters as a surface in three dimensions.

    Args:
      fun: Maps a point of shape (2,) to the loss; or a surface of two parameters.
      domain: Lower and upper corner of the view, shape (2,) each; that of the surface by default.
      resolution: Points a side.
      title: Of the axes.
      ax: Where to draw: axes made with `projection="3d"`.

    Returns:
      The axes.

    Raises:
      TypeError: If `fun` is no function.
      ValueError: If `ax` is flat, or the corners are missing or have not two coordinates.

    Example:
      >>> ax = plot_surface_3d(lambda w: w[0] * w[1], ([0, 0], [1, 1]), resolution=4)
      >>> ax.get_zlabel()
      'loss'
    """
    ax = axes_or_new(ax, 5.4, 4.4, projection="3d")
    if ax.name != "3d":
        raise ValueError(f"plot_surface_3d needs axes with projection='3d', got {ax.name!r}.")
    first, second, values = _grid("plot_surface_3d", fun, domain, resolution)
    x, y = np.meshgrid(first, second)
    # As an image inside the SVG: thousands of little polygons are megabytes.
    ax.plot_surface(  # pyright: ignore[reportAttributeAccessIssue]
        x,
        y,
        values,
        cmap="cividis",
        rcount=resolution,
        ccount=resolution,
        rasterized=True,
        antialiased=False,  # else the seams of the polygons show as white lines
    )
    ax.locator_params(nbins=5)
    ax.set_xlabel("$w_1$")
    ax.set_ylabel("$w_2$")
    # room for the label, which the layout does not see
    ax.set_box_aspect(None, zoom=0.92)  # pyright: ignore[reportCallIssue]
    ax.set_zlabel("loss", labelpad=8)  # pyright: ignore[reportAttributeAccessIssue]
    if title:
        ax.set_title(title, fontsize="medium")
    return ax


def _grid(
    caller: str, fun: Loss | Surface, domain: Domain | Paths | None, resolution: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluate the loss on a grid: both axes and values with the second parameter in axis 0."""
    if isinstance(fun, Surface):
        fun, domain = fun.fun, fun.domain if domain is None else domain
    if not callable(fun):
        raise TypeError(
            f"{caller} needs a function of a point or a surface, got {type(fun).__name__}."
        )
    if domain is None or isinstance(domain, Mapping):
        found = "no domain" if domain is None else "paths in the place of the domain"
        raise ValueError(f"{caller} needs the corners of the view for a function, got {found}.")
    is_pair = isinstance(domain, Sequence | np.ndarray | jax.Array)
    if not is_pair or isinstance(domain, str) or hasattr(domain, "_fields"):
        found = type(domain).__name__
        raise TypeError(f"{caller} needs a lower and an upper corner as domain, got {found}.")
    corners = [real_numbers(caller, "domain", corner).astype(np.float32) for corner in domain]
    if [corner.shape for corner in corners] != [(2,), (2,)]:
        raise ValueError(
            f"{caller} needs a lower and an upper corner of shape (2,), "
            f"got shapes {[corner.shape for corner in corners]}."
        )
    if not (corners[0] < corners[1]).all():
        raise ValueError(
            f"{caller} needs a lower and an upper corner, "
            f"got {corners[0].tolist()} and {corners[1].tolist()}."
        )
    first, second = np.linspace(corners[0], corners[1], resolution, dtype=np.float32).T
    points = jnp.stack(jnp.meshgrid(first, second), axis=-1).reshape(-1, 2)
    values = jax.jit(jax.vmap(fun))(points)
    return first, second, np.asarray(values).reshape(resolution, resolution)


def _points(caller: str, name: str, path: Path) -> np.ndarray:
    """Return the points of a path."""
    if isinstance(path, Solution) and path.history is None:
        raise ValueError(
            f"{caller} needs the points of a search, got a Solution without history for {name!r}: "
            "call minimize(..., history=True)."
        )
    points = real_numbers(caller, name, path_points(path), "(points, 2)", [2])
    if points.shape[1] != 2 or not len(points):
        raise ValueError(
            f"{caller} needs numbers of shape (points, 2), got shape {points.shape} for {name!r}."
        )
    return points
