"""The image data set by its size: the real thing, or the tenth of it that is always at hand."""

import os
from typing import Literal

from jaxopt_tut.datasets.dataset import Dataset
from jaxopt_tut.datasets.fashion_mnist import load_fashion_mnist
from jaxopt_tut.datasets.mini import load_fashion_mnist_mini


def load(name: Literal["mini", "full"], directory: str | os.PathLike[str] | None = None) -> Dataset:
    r"""Load Fashion-MNIST in one of its two sizes.

    $$n_\text{train} = 6\,000,\ n_\text{test} = 1\,000 \quad\text{or}\quad
    n_\text{train} = 60\,000,\ n_\text{test} = 10\,000.$$

    For scripts whose data set is an option: `"mini"` comes with the package, `"full"` has to be
    on the disk; nothing is downloaded. Costs what the loader of that size costs.

    Args:
      name: `"mini"` for `load_fashion_mnist_mini()`, `"full"` for `load_fashion_mnist(directory)`.
      directory: Where the four files of the full set lie; None looks in the usual places.

    Returns:
      The data set, as numpy arrays on the host.

    Raises:
      ValueError: If there is no such size, a directory is given for the bundled images, which lie
        in none, or a file is not what it should be.
      FileNotFoundError: If the full set is asked for and no place has it.

    Example:
      >>> load("mini").train.images.shape
      (6000, 28, 28)
      >>> load("tiny")
      Traceback (most recent call last):
      ...
      ValueError: load needs a name among 'mini', 'full', got name='tiny'.
    """
    if name == "full":
        return load_fashion_mnist(directory)
    if name != "mini":
        raise ValueError(f"load needs a name among 'mini', 'full', got name={name!r}.")
    if directory is not None:
        raise ValueError(
            "load needs no directory for name='mini', which comes with the package, "
            f"got directory={os.fspath(directory)!r}."
        )
    return load_fashion_mnist_mini()
