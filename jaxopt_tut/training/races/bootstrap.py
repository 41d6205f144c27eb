"""The bootstrap of a race: seeds within each problem, and problems too."""

import numpy as np
from jaxtyping import Float


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
    if num_draws < 1:
        raise ValueError(f"a bootstrap needs num_draws >= 1, got num_draws={num_draws}.")
    _, num_problems, num_seeds = times.shape
    which = np.broadcast_to(np.arange(num_problems), (num_draws, num_problems))
    if problems:
        which = rng.integers(num_problems, size=(num_draws, num_problems))
    seeds = rng.integers(num_seeds, size=(num_draws, num_problems, num_seeds))
    drawn = times[:, which[..., None], seeds]  # optimizers, draws, problems, seeds
    return np.median(drawn, axis=-1).swapaxes(0, 1)
