"""Results of `learned_gains`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import learned_gains as gains
from experiments.bilevel.learned_gains import KAIMING, LEARNED, UNSCALED


def results():
    scatter = np.linspace(-1, 1, 5)
    losses = {
        LEARNED: 1.5 + 0.1 * scatter,
        KAIMING: 1.6 + 0.11 * scatter,
        UNSCALED: np.full(5, 2.3),
    }
    later = {
        LEARNED: 0.95 + 0.1 * scatter,
        KAIMING: 0.97 + 0.1 * scatter,
        UNSCALED: np.full(5, 2.2),
    }
    found = np.array([1.0, 2.0, 2.0, 2.0, 2.0, 1.2]) * (1 + 0.1 * scatter[:, None])
    good = gains.Result(found, 2**0.5, np.zeros((5, 3)), losses, later)
    yield good
    swapped = {LEARNED: losses[UNSCALED], KAIMING: losses[LEARNED], UNSCALED: losses[KAIMING]}
    yield good._replace(
        gains=found[:, [1, 0, 5, 0, 5, 1]] / 4,
        short=swapped,
        long={**later, KAIMING: np.full(5, 2.0)},
    )
