"""Small grey images in a grid."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxopt_tut.plotting.style import new_figure


def plot_images(
    images: ArrayLike,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 5,
    title: str = "",
    figure: Figure | None = None,
) -> Figure:
    """Draw grey images in a grid, each on its own scale from black to white.

    Args:
      images: Of shape (num, height, width).
      titles: One an image.
      columns: Images a row.
      title: Above all of them.
      figure: Where to draw; a new figure by default. (A grid has no single `ax`.)

    Returns:
      The figure, its axes in the order of the images.

    Raises:
      ValueError: If `images` has not three axes or `titles` not one an image.

    Example:
      >>> figure = plot_images(np.zeros((2, 4, 4)), ["shirt", "bag"])
      >>> [ax.get_title() for ax in figure.axes]
      ['shirt', 'bag']
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"plot_images needs images of three axes, got shape {images.shape}.")
    titles = [""] * len(images) if titles is None else titles
    if len(titles) != len(images):
        raise ValueError(
            f"plot_images needs one title an image ({len(images)}), got {len(titles)} titles."
        )
    rows = -(-len(images) // columns)
    if figure is None:
        figure = new_figure(1.3 * columns, 1.55 * rows + (0.4 if title else 0.0))
    for i, (image, text) in enumerate(zip(images, titles, strict=True)):
        ax = figure.add_subplot(rows, columns, i + 1)
        ax.imshow(image, cmap="gray")
        ax.set_title(text, fontsize="small")
        ax.set_axis_off()
    if title:
        figure.suptitle(title)
    return figure
