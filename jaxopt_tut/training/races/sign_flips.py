"""Whether differences of pairs are more than chance: exact tests by sign flips, many at once."""

import math

import numpy as np
from jaxtyping import Float

__all__ = ["holm", "sign_flip_p_values", "smallest_p_value"]

MOST_ENUMERATED = 24  # differences whose sign patterns are enumerated, in two halves
GRID = 2**13  # cells of the sum of absolute differences beyond that


def sign_flip_p_values(
    differences: Float[np.ndarray, "tests n"],
) -> Float[np.ndarray, "tests"]:
    r"""Return two-sided p values of the sum of paired differences.

    $$p = 2^{-n} \left|\left\{ s \in \{-1, 1\}^n :
      \left| \sum_i s_i d_i \right| \ge \left| \sum_i d_i \right| \right\}\right|$$

    That is Fisher's randomization test (1935, The Design of Experiments, section 21). Differences
    have to be independent and, where nothing differs, each symmetric about 0. No pattern is drawn
    at random: up to 24 differences all are counted. More are rounded to a grid, on which the
    distribution of their sum is a product of convolutions (Pagano and Tritchler 1983, J. Amer.
    Statist. Assoc. 78:435), so that the test of the rounded differences is exact, too.

    Args:
      differences: A row a test: n paired differences whose signs are chance if nothing differs.

    Returns:
      A p value a row; 1 where all differences are 0.

    Example:
      Of the 8 patterns of three signs two reach a sum of 6, all plus and all minus:

      >>> sign_flip_p_values(np.array([[1.0, 2.0, 3.0]])).tolist()
      [0.25]
    """
    return np.array([_p_value(row[row != 0]) for row in np.asarray(differences, np.float64)])


def smallest_p_value(num_differences: int) -> float:
    r"""Return the p value of differences of one sign, below which none can come.

    $$p_{\min} = 2^{1-n}$$

    Args:
      num_differences: n, of differences that are not 0.

    Returns:
      The smallest p value of `sign_flip_p_values`.

    Example:
      >>> smallest_p_value(5), smallest_p_value(6)
      (0.0625, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - num_differences))


def holm(p_values: Float[np.ndarray, "tests"]) -> Float[np.ndarray, "tests"]:
    r"""Adjust p values for their number.

    $$\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})$$

    The chance of any false rejection stays at the level whatever the tests have in common (Holm
    1979, Scand. J. Statist. 6:65).

    Args:
      p_values: Of all tests that were made.

    Returns:
      Adjusted p values, in the order given.

    Example:
      >>> holm(np.array([0.04, 0.01])).tolist()
      [0.04, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def _p_value(differences: np.ndarray) -> float:
    """Test differences that are not 0; those that are 0 change no sum."""
    if differences.size == 0:
        return 1.0
    if differences.size <= MOST_ENUMERATED:
        return _enumerated(differences)
    return _on_a_grid(differences)


def _enumerated(differences: np.ndarray) -> float:
    half = len(differences) // 2
    left, right = _signed_sums(differences[:half]), np.sort(_signed_sums(differences[half:]))
    # Sums that are equal but for rounding count as equal.
    least = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if least <= 0:
        return 1.0
    above = len(right) - np.searchsorted(right, least - left, side="left")
    return min(1.0, 2 * int(above.sum()) / 2.0 ** len(differences))  # as many lie below


def _signed_sums(values: np.ndarray) -> np.ndarray:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _on_a_grid(differences: np.ndarray) -> float:
    sizes = np.abs(differences)
    cells = np.round(sizes * (GRID / sizes.sum())).astype(int)
    total = int(cells.sum())
    chances = np.zeros(2 * total + 1)  # of the sums from -total to total
    chances[total] = 1.0
    for cell in cells:
        # A sum moves by a cell up or down; what would leave the range has no chance as yet.
        moved = np.zeros_like(chances)
        moved[cell:] += 0.5 * chances[: len(chances) - cell]
        moved[: len(chances) - cell] += 0.5 * chances[cell:]
        chances = moved
    observed = abs(int(np.sum(np.sign(differences).astype(int) * cells)))
    if observed == 0:
        return 1.0
    return min(1.0, 2 * math.fsum(chances[total + observed :]))
