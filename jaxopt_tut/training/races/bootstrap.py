"""The bootstrap of a race: seeds within each problem, and problems too."""

import math

import numpy as np
from jaxtyping import Float

from jaxopt_tut.quantiles import normal_quantile, student_quantile


def resample_seeds(
    times: Float[np.ndarray, "optimizers problems seeds"],
    num_draws: int,
    rng: np.random.Generator,
    *,
    problems: bool = False,
) -> Float[np.ndarray, "draws optimizers problems"]:
    """Draw seeds with replacement within each problem, and return the medians over them.

    One draw serves all optimizers, for they share the seed's start and batches. With `problems`
    those are drawn with replacement first (Davison and Hinkley 1997, Bootstrap Methods, section
    3.8: both levels).
    """
    _, num_problems, num_seeds = times.shape
    which = np.broadcast_to(np.arange(num_problems), (num_draws, num_problems))
    if problems:
        which = rng.integers(num_problems, size=(num_draws, num_problems))
    seeds = rng.integers(num_seeds, size=(num_draws, num_problems, num_seeds))
    drawn = times[:, which[..., None], seeds]  # optimizers, draws, problems, seeds
    return np.median(drawn, axis=-1).swapaxes(0, 1)


def interval_around(
    estimates: Float[np.ndarray, "..."],
    draws: Float[np.ndarray, "draws ..."],
    size: int,
    level: float,
    *,
    student: bool = False,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    r"""Return intervals for numbers from 0 to 1 by the spread of their bootstrap draws.

    $$\hat\theta \pm z\, s \sqrt{\tfrac{n}{n-1}}$$

    with the standard deviation s of the draws, and the quantile of Student's t with n - 1 degrees
    of freedom for z if `student`. Of one seed or problem nothing is known: 0 to 1.
    """
    # Percentile intervals would be biased: the best of resampled times is too good, so that all
    # draws of a score lie too low. In simulated races of 8 optimizers with 5 seeds they cover 70 to
    # 80 % where these cover 95 %.
    if size < 2:
        return np.zeros_like(estimates), np.ones_like(estimates)
    quantile = student_quantile(level, size - 1) if student else normal_quantile(level)
    half = quantile * math.sqrt(size / (size - 1)) * draws.std(axis=0)
    return np.maximum(estimates - half, 0.0), np.minimum(estimates + half, 1.0)
