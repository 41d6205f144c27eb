"""What every loader returns, and how a validation part is split off."""

import operator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt8

from jaxopt_tut.blocks import brief, has_numbers, in_a_line, number, numbers, shown
from jaxopt_tut.datasets.normalization import normalize, pixel_statistics, verify_normalization
from jaxopt_tut.types import PRNGKey

_VERIFIED_BATCH = 1024


@shown
class Split(NamedTuple):
    """Images with their labels.

    Attributes:
      images: Grey values from 0 to 255, on the host as loaded; one byte a pixel.
      labels: The class of each image.
    """

    images: UInt8[np.ndarray | Array, "num height width"]
    labels: Int32[np.ndarray | Array, " num"]

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return how many images there are, of which size and of how many classes."""
        return "Split", split_rows(self)


@shown
class Dataset(NamedTuple):
    """Training and test images, and the two numbers that normalise both.

    Attributes:
      train: The images to learn from; a validation part is split off by
        `split_train_validation`.
      test: The images to judge by.
      mean: Mean grey value of the training images on the scale [0, 1], one for all pixels.
      std: Standard deviation of the same grey values.
    """

    train: Split
    test: Split
    mean: float
    std: float

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the same of both parts, and what normalises them."""
        rows = [
            (f"{name} {what}", text)
            for name, part in (("train", self.train), ("test", self.test))
            for what, text in (split_rows(part) if isinstance(part, Split) else [("", brief(part))])
        ]
        return "Dataset", [*rows, ("mean", number(self.mean)), ("std", number(self.std))]

    def batch(self, size: int, split: Literal["train", "test"] = "train") -> Split:
        r"""Return the first images of a part, normalised, as `fit` hands them to a loss.

        $$x_i = \frac{b_i / 255 - \mu}{\sigma}, \qquad i = 1, \dots, n$$

        with the bytes $b_i$, the mean $\mu$ and the standard deviation $\sigma$ of this data set.
        For what looks at one batch: `diagnose`, `auto_init`, taps, a measure of curvature.

        Args:
          size: How many images, $n$.
          split: Of which part.

        Returns:
          Images of floats and labels, as JAX arrays.

        Raises:
          TypeError: If `size` is no integer.
          ValueError: If there are not as many images, or there is no such part.

        Example:
          >>> from jaxopt_tut import datasets
          >>> images, labels = datasets.load("mini").batch(1024)
          >>> images.shape, labels.shape, abs(round(float(images.mean()), 1))
          ((1024, 28, 28), (1024,), 0.0)
        """
        if not isinstance(split, str) or split not in ("train", "test"):
            raise ValueError(f"batch needs split 'train' or 'test', got split={split!r}.")
        try:
            if isinstance(size, bool):
                raise TypeError
            size = operator.index(size)
        except TypeError:
            raise TypeError(f"batch needs an integer size, got size={size!r}.") from None
        part = self.train if split == "train" else self.test
        if not 1 <= size <= len(part.images):
            raise ValueError(f"batch needs 1 <= size <= {len(part.images)}, got size={size}.")
        images = normalize(jnp.asarray(part.images[:size]), self.mean, self.std)
        return Split(images, jnp.asarray(part.labels[:size]))


def split_rows(split: Split) -> list[tuple[str, str]]:
    """Return what images and labels are, by what there is to be seen of them."""
    images, labels = in_a_line(split.images), in_a_line(split.labels)
    is_column = has_numbers(split.labels) and np.ndim(split.labels) == 1
    found = numbers(split.labels) if is_column else None
    if found is not None and found.size and found.dtype.kind in "iu":
        counts = np.unique(found, return_counts=True)[1]
        least, most = counts.min(), counts.max()
        each = f"{least} of each" if least == most else f"{least} to {most} of each"
        labels += f", {len(counts)} classes, {each}"
    return [("images", images), ("labels", labels)]


def assemble(train: Split, test: Split, *, caller: str) -> Dataset:
    """Compute the normalisation of `train` and verify it on the first batch of 1024 images.

    That batch is another one if the images are sorted, or damaged in a way that no format check
    sees.
    """
    mean, std = pixel_statistics(np.asarray(train.images))
    check = verify_normalization(train.images[:_VERIFIED_BATCH], mean, std)
    if not check.ok:
        raise ValueError(
            f"{caller} needs a first batch with |mean| < 0.03 and |std - 1| < 0.03 "
            f"once normalised, got mean={check.mean:.4f} and std={check.std:.4f}."
        )
    return Dataset(train, test, mean, std)


def split_train_validation(key: PRNGKey, split: Split, num_validation: int) -> tuple[Split, Split]:
    r"""Split a validation part off the training images, by key.

    $$\text{validation} = (x_{\pi(1)}, \dots, x_{\pi(m)}), \qquad
      \text{train} = (x_{\pi(m+1)}, \dots, x_{\pi(n)})$$

    with $\pi$ a permutation of the $n$ images, uniform over all $n!$, and $m$ = `num_validation`.
    Every image is in exactly one part; the same key gives the same bits. Not stratified: the
    number of a class in the validation part scatters by about $\sqrt{m\,p\,(1-p)}$ for a class of
    frequency $p$. Costs one copy of the images, on the default device.

    Args:
      key: A typed key (`jax.random.key`).
      split: The images to split.
      num_validation: How many go to the validation part, $0 < m < n$.

    Returns:
      The training part and the validation part, as JAX arrays.

    Raises:
      TypeError: If `key` is not one typed key, or `num_validation` not an integer.
      ValueError: If either part would be empty, or there are not as many labels as images.

    Example:
      >>> images = np.arange(5, dtype=np.uint8)[:, None, None]
      >>> split = Split(images, np.arange(5, dtype=np.int32))
      >>> train, validation = split_train_validation(jax.random.key(0), split, 2)
      >>> train.images.shape, validation.images.shape
      ((3, 1, 1), (2, 1, 1))
      >>> sorted([*train.labels.tolist(), *validation.labels.tolist()])
      [0, 1, 2, 3, 4]

    References:
      Lippe (2022), "Optimization and Initialization" (UvA Deep Learning, tutorial 4), splits
      50 000 : 10 000.
      https://uvadlc-notebooks.readthedocs.io/en/latest/tutorial_notebooks/JAX/tutorial4/Optimization_and_Initialization.html
    """
    if not jnp.issubdtype(getattr(key, "dtype", np.float32), jax.dtypes.prng_key) or key.shape:
        raise TypeError(f"split_train_validation needs one typed key of jax.random.key, got {key}.")
    try:
        num_validation = operator.index(num_validation)
    except TypeError as error:
        raise TypeError(
            f"split_train_validation needs an integer num_validation, got {num_validation!r}."
        ) from error
    num_images, num_labels = len(split.images), len(split.labels)
    if num_images != num_labels:
        raise ValueError(
            f"split_train_validation needs as many labels as images, "
            f"got {num_labels} and {num_images}."
        )
    if not 0 < num_validation < num_images:
        raise ValueError(
            f"split_train_validation needs 0 < num_validation < {num_images}, "
            f"got num_validation={num_validation}."
        )
    order = jax.random.permutation(key, num_images)
    shuffled = Split(*(jnp.asarray(leaf)[order] for leaf in split))
    validation, train = (
        Split(*(leaf[part] for leaf in shuffled))
        for part in (slice(num_validation), slice(num_validation, None))
    )
    return train, validation
