"""The loss at which a problem counts as solved, where nobody has said it."""

import numpy as np
from jaxtyping import Float

PART_OF_THE_STEPS = 0.75


def common_target(losses: Float[np.ndarray, "optimizers rates seeds evaluations"]) -> float:
    """Return what the optimizer in the middle, at its best rate, reaches in 3/4 of the steps.

    The median over optimizers of the least, over rates, median over seeds of the lowest loss until
    then: a number in which all optimizers have the same part. It is -inf, which nothing reaches,
    where that is no finite number.
    """
    num = max(1, int(PART_OF_THE_STEPS * losses.shape[-1]))
    lowest = losses[..., :num].min(axis=-1).astype(np.float64)  # a mean of two may overflow float32
    reached = np.median(lowest, axis=-1)  # of (optimizers, rates)
    # of an even number the lower of the middle ones: the mean with one that diverged would be inf
    target = np.quantile(reached.min(axis=1), 0.5, method="lower")
    return float(target) if np.isfinite(target) else -np.inf
