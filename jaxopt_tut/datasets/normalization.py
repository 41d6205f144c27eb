"""Zero mean and unit variance: what the variance arguments of every initializer assume.

One mean and one standard deviation for all pixels, computed from the training images only.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.types import DTypeLike, Number, Scalar

Images = TypeAliasType("Images", UInt8[np.ndarray | Array, "..."])
"""Grey values from 0 to 255, one byte each."""

Statistic = TypeAliasType("Statistic", Scalar | np.floating)
"""A number of JAX's, or of NumPy's where the images were."""

Flag = TypeAliasType("Flag", Bool[Array, ""] | np.bool_)
"""A truth value, likewise."""


def pixel_statistics(images: UInt8[np.ndarray, "..."]) -> tuple[float, float]:
    r"""Compute mean and standard deviation of grey values on the scale [0, 1].

    $$\mu = \frac{1}{255\, n} \sum_i x_i, \qquad
      \sigma = \frac{1}{255\, n} \sqrt{n \sum_i x_i^2 - \Big(\sum_i x_i\Big)^2}$$

    over the $n$ pixels of all images together. The sums are integers and their difference is
    taken exactly, so the two-term formula loses no digits. Runs on the host (0.1 s and 94 MB for
    the 60 000 images of Fashion-MNIST).

    Args:
      images: Grey values from 0 to 255.

    Returns:
      The mean $\mu$ and the standard deviation $\sigma$ (of the population: divided by $n$).

    Raises:
      TypeError: If the images aren't uint8.
      ValueError: If all pixels are equal, so that no division by $\sigma$ is possible.

    Example:
      >>> mean, std = pixel_statistics(np.array([0, 0, 0, 255], np.uint8))
      >>> mean, round(std, 6)
      (0.25, 0.433013)
    """
    _require_uint8(images, "pixel_statistics")
    total = int(images.sum(dtype=np.int64))
    squares = int(np.square(images, dtype=np.uint16).sum(dtype=np.int64))
    spread = images.size * squares - total * total
    if spread == 0:
        raise ValueError(
            f"pixel_statistics needs images with more than one grey value, got {images.size} "
            "equal pixels."
        )
    return total / (255 * images.size), math.sqrt(spread) / (255 * images.size)


def normalize(
    images: Images, mean: Number, std: Number, *, dtype: DTypeLike = jnp.float32
) -> Float[np.ndarray | Array, "..."]:
    r"""Scale grey values to zero mean and unit variance.

    $$y = \frac{x / 255 - \mu}{\sigma}$$

    Meant for use inside the compiled training step, on images that stay as bytes on the device:
    the loop that reads the batch then does this on the way. With numpy images and plain numbers
    it runs on the host and gives a numpy array. Computed in float32 where `dtype` is narrower.

    Args:
      images: Grey values from 0 to 255.
      mean: $\mu$, on the scale [0, 1].
      std: $\sigma > 0$, likewise.
      dtype: Floating dtype of the result.

    Returns:
      An array of the shape of `images`.

    Raises:
      TypeError: If the images aren't uint8 (dividing by 255 twice would pass unseen), or `dtype`
        is not floating.
      ValueError: If `std` is a number and not positive.

    Example:
      >>> black_and_white = normalize(np.array([0, 255], np.uint8), 0.2861, 0.3530)
      >>> [round(float(value), 4) for value in black_and_white]
      [-0.8105, 2.0224]

    References:
      Lippe (2022), "Optimization and Initialization" (UvA Deep Learning, tutorial 4).
    """
    _require_uint8(images, "normalize")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"normalize needs a floating dtype, got dtype={jnp.dtype(dtype)}.")
    # A scalar of numpy counts as an array: as a Python number it leaves the dtype alone.
    mean, std = (float(v) if isinstance(v, np.number) else v for v in (mean, std))
    if isinstance(std, int | float) and not std > 0:
        raise ValueError(f"normalize needs std > 0, got std={std}.")
    working = np.promote_types(dtype, np.float32)
    return ((images.astype(working) / 255 - mean) / std).astype(dtype)


@shown
class NormalizationCheck(NamedTuple):
    """What one normalised batch looks like.

    Attributes:
      ok: Whether mean and standard deviation are as close to 0 and 1 as asked.
      mean: Mean over all pixels of the batch, after normalisation.
      std: Standard deviation over the same.
      min: Smallest value; that of a black pixel wherever there is one.
      max: Largest value; that of a white pixel wherever there is one.
    """

    ok: Flag
    mean: Statistic
    std: Statistic
    min: Statistic
    max: Statistic


def verify_normalization(
    images: Images, mean: Number, std: Number, *, tolerance: float = 0.03
) -> NormalizationCheck:
    r"""Normalise one batch and say how close it comes to zero mean and unit variance.

    $$\text{ok} = |\bar y| < \epsilon \ \wedge\ |s_y - 1| < \epsilon, \qquad
      y = \frac{x/255 - \mu}{\sigma}$$

    with $\bar y$ and $s_y$ over all pixels of the batch. Use it on a batch as the model will see
    it. A batch is a sample: the mean of one image of Fashion-MNIST scatters by 0.36 standard
    deviations of a pixel, so that of a random batch of 1024 scatters by $0.36/\sqrt{1024} = 0.011$
    about 0, and the default $\epsilon$ is 2.7 of these standard errors.

    Args:
      images: One batch of grey values from 0 to 255.
      mean: $\mu$ of the training images, on the scale [0, 1].
      std: $\sigma > 0$ of the training images.
      tolerance: $\epsilon > 0$.

    Returns:
      The flag and the four statistics it stands on; NaN anywhere makes the flag false.

    Raises:
      TypeError: If the images aren't uint8.
      ValueError: If `std` or `tolerance` is a number and not positive.

    Example:
      >>> batch = np.array([[0, 0, 0, 255]], np.uint8)
      >>> check = verify_normalization(batch, 0.25, 0.4330127)
      >>> bool(check.ok), round(float(check.max), 4)
      (True, 1.7321)
      >>> bool(verify_normalization(batch, 0.25, 1.0).ok)
      False
    """
    if isinstance(tolerance, int | float) and not tolerance > 0:
        raise ValueError(f"verify_normalization needs tolerance > 0, got tolerance={tolerance}.")
    batch = normalize(images, mean, std)
    center, spread = batch.mean(), batch.std()
    ok = (abs(center) < tolerance) & (abs(spread - 1) < tolerance)
    return NormalizationCheck(ok, center, spread, batch.min(), batch.max())


def _require_uint8(images: Any, caller: str) -> None:
    """Refuse anything but bytes, an unconverted list included."""
    dtype = getattr(images, "dtype", type(images).__name__)
    if dtype != np.uint8:
        raise TypeError(f"{caller} needs uint8 images, got {dtype}.")
