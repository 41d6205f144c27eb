"""The variance of a layer over a batch, and how well the batch tells it."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

PerStep = Float[np.ndarray, "..."] | np.floating
"""A number a step of the scans around a layer; a scalar of NumPy's where there is none."""


class Spread(NamedTuple):
    """What a batch tells of the variance of a layer's pre-activations; one entry a step of a scan.

    Attributes:
      variance: Over examples, units and places together; 0 where it is rounding alone.
      scatter: Standard error of the variance by the scatter of the examples, relative to it; NaN
        where no axis counts examples.
      kurtosis: Mean fourth power over the squared variance; 3 for Gaussian values.
      varies: Whether the examples differ by more than rounding.
    """

    variance: PerStep
    scatter: PerStep
    kurtosis: PerStep
    varies: Bool[np.ndarray, "*step"]


class Moments(NamedTuple):
    """Averages over the values of each example, from which a spread follows.

    Attributes:
      center: The mean of all values.
      first: Of the deviations from it.
      second: Of their squares.
      fourth: Of their fourth powers.
    """

    center: Float[Array, "*step 1"]
    first: Float[Array, "*step row"]
    second: Float[Array, "*step row"]
    fourth: Float[Array, "*step row"]


def moments(value: Inexact[Array, "..."], num_steps: int, rows: tuple[int, ...]) -> Moments:
    """Average what is needed of a layer; few operations, as they are compiled for each.

    So many leading axes count steps, and `rows` examples; of a complex value the modulus counts.
    """
    if jnp.finfo(value.dtype).bits < 32:
        value = value.astype(jnp.float32)
    axes = tuple(range(num_steps, value.ndim))
    inner = tuple(axis for axis in axes if axis not in rows)
    center = jnp.mean(value, axis=axes, keepdims=True)
    away = value - center
    squares = jnp.abs(away) ** 2

    def of_rows(values: Array) -> Array:
        return jnp.mean(values, axis=inner).reshape(*value.shape[:num_steps], -1)

    first = jnp.abs(of_rows(away)) if jnp.iscomplexobj(value) else of_rows(away)
    center = jnp.abs(center).reshape(*value.shape[:num_steps], 1)
    return Moments(center, first, of_rows(squares), of_rows(squares**2))


def spread_of(found: Moments, has_rows: bool, taken: np.ndarray | None = None) -> Spread:
    r"""Make a spread of moments.

    $$v = \frac1n \sum_i e_i, \qquad e_i = \frac1m \sum_u |z_{iu} - \bar z|^2, \qquad
      s^2 = \frac{1}{n (n - 1)} \sum_i \Bigl(\frac{e_i}{v} - 1\Bigr)^2$$

    Examples are independent of each other; units and pixels of one are not. Zeros stand for a
    branch that was not run.
    """
    single = np.finfo(found.second.dtype)
    center, first, second, fourth = (np.asarray(one, np.float64) for one in found)
    if taken is not None:
        mask = taken.reshape(taken.shape + (1,) * (center.ndim - taken.ndim))
        center, first, second, fourth = (
            np.where(mask, one, 0) for one in (center, first, second, fourth)
        )
    num_rows = second.shape[-1]
    variance = second.mean(axis=-1)
    # written so that NaN stays
    least = (_ROUNDING * single.eps) ** 2 * (center[..., 0] ** 2 + variance)
    variance = np.where(variance <= least, 0.0, variance)
    unit = np.where(variance > 0, variance, 1.0)
    with np.errstate(invalid="ignore", over="ignore"):  # they are infinite, and said to be
        relative = np.where(variance[..., None] > 0, second / unit[..., None] - 1, 0)
        scatter = np.sqrt((relative**2).mean(axis=-1) / max(num_rows - 1, 1))
        kurtosis = fourth.mean(axis=-1) / unit**2
        change = first.var(axis=-1) + second.var(axis=-1) / unit
    varies = change > least if has_rows and num_rows > 1 else variance > 0
    if not has_rows or num_rows <= 1:
        scatter = np.full_like(scatter, np.nan)
    return Spread(variance.astype(found.second.dtype), scatter, kurtosis, varies)


_ROUNDING = 64
"""Means of equal numbers miss them by less than as many machine epsilons."""


def relative_error(spread: Spread, num_rows: int, num_values: int) -> PerStep:
    r"""Return the standard error of a variance, relative to it, for few rows and long tails.

    With n rows of m values each (units times places); infinite for three rows or fewer.

    $$\epsilon^2 = \max\Bigl(s^2\, \frac{n - 1}{n - 3},\; \frac{2}{(n - 1)\, m}\Bigr)
      \max\Bigl(1, \frac{\kappa - 1}{2}\Bigr)$$

    The scatter of few rows is itself a draw: the first factor is the variance of Student's t with
    n - 1 degrees of freedom, and m Gaussian numbers a row set the least. A sample with long tails
    seldom has the rare rows that make most of the variance, so that its scatter is too small; it
    is taken to be as much too small as it is above that of Gaussian numbers, $2 / n$ for a
    kurtosis of 3. That is a rule of thumb, found on networks of seven activations (relu, its cube,
    exp, tanh, sin, abs, square), 1 to 100 units and 8 to 256 rows: of those of depth 4 with
    $\epsilon < 1/2$ in each layer two in a hundred have one whose variance on fresh rows is further
    away than four errors. Tails that 16 rows do not show cannot be seen in them: at depth 2, behind
    cubes, exponentials and squares, it is a quarter of them, and one in fifty with 64 rows.
    """
    if num_rows <= 3:
        return np.full(np.shape(spread.scatter), np.inf)
    scatter, kurtosis = (np.asarray(one, np.float64) for one in (spread.scatter, spread.kurtosis))
    by_rows = scatter**2 * (num_rows - 1) / (num_rows - 3)
    least = 2 / ((num_rows - 1) * max(num_values, 1))
    return np.sqrt(np.maximum(by_rows, least) * np.maximum(1, (kurtosis - 1) / 2))
