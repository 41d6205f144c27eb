"""Small images in a grid."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxopt_tut.datasets import Split
from jaxopt_tut.plotting.numbers import Numbers, real_numbers
from jaxopt_tut.plotting.style import new_figure


def plot_images(
    images: Numbers | Split,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 5,
    title: str = "",
    figure: Figure | None = None,
) -> Figure:
    """Draw images in a grid: grey ones each on its own scale from black to white, colours as given.

    Colours are bytes, or numbers from 0 to 1. With any number outside of that, as in normalised
    images, every image is scaled like grey ones, its channels alike.

    Args:
      images: Of shape (num, height, width), or (num, height, width, channels) with one channel
        (grey), three (red, green, blue) or four (and opacity). A part of a data set is drawn whole,
        with its labels: take the first of it, `dataset.batch(10)`.
      titles: One an image.
      columns: Images a row.
      title: Above all of them.
      figure: Where to draw; a new figure by default. (A grid has no single `ax`.)

    Returns:
      The figure, its axes in the order of the images.

    Raises:
      TypeError: If there are no real numbers in `images`.
      ValueError: If `images` has another shape, or `titles` not one an image.

    Example:
      >>> figure = plot_images(np.zeros((2, 4, 4)), ["shirt", "bag"])
      >>> [ax.get_title() for ax in figure.axes]
      ['shirt', 'bag']
    """
    if isinstance(images, Split):
        titles = [str(label) for label in np.asarray(images.labels)] if titles is None else titles
        images = images.images
    numbers = real_numbers("plot_images", "images", images)
    shape = tuple(numbers.shape)
    # three columns and many rows: a single image in colour, without the first axis
    is_single = len(shape) == 3 and shape[2] in (3, 4) and shape[1] > 16
    if is_single or len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"plot_images needs images of three axes, got shape {shape}. "
            "Colours are a fourth axis, of 3 channels, or 4 with opacity."
        )
    if not len(numbers):
        raise ValueError("plot_images needs an image at least, got none.")
    if getattr(images, "dtype", None) == np.uint8 and numbers.ndim == 4 and shape[-1] > 1:
        numbers = numbers / 255
    is_scaled = bool(np.any((numbers < 0) | (numbers > 1)))
    images = [_shown(image, is_scaled) for image in numbers]
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
        ax.imshow(image, cmap="gray")  # colours need no map
        ax.set_title(text, fontsize="small")
        ax.set_axis_off()
    if title:
        figure.suptitle(title)
    return figure


def _shown(image: np.ndarray, is_scaled: bool) -> np.ndarray:
    """Return grey values as they are, and colours from 0 to 1."""
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    finite = image[np.isfinite(image)]
    if is_scaled and finite.size:
        image = (image - finite.min()) / max(np.ptp(finite), np.finfo(np.float64).tiny)
    return np.clip(np.nan_to_num(image, posinf=1.0, neginf=0.0), 0, 1)
