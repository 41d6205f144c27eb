"""Results of `hyper_cleaning`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import hyper_cleaning as cleaning


def results():
    is_clean = np.tile(np.arange(400) % 2 == 0, (2, 1))
    weights = np.where(is_clean, 0.9, 0.1)
    weights[:, :20] = 0.9  # ten mistakes, the same in every mode
    score = {
        cleaning.ALL: 0.72,
        cleaning.KEPT: 0.78,
        cleaning.ORACLE: 0.78,
        cleaning.VALIDATION: 0.785,
        cleaning.BOTH: 0.785,
    }
    accuracies = {name: np.full(2, value) for name, value in score.items()}
    good = cleaning.Result(dict.fromkeys(cleaning.MODES, weights), is_clean, accuracies)
    yield good
    yield good._replace(
        weights=dict.fromkeys(cleaning.MODES, 1 - weights),
        accuracies=accuracies | {cleaning.KEPT: np.full(2, 0.73)},
    )
    mirrored = np.where(is_clean, 0.9, 0.1)
    mirrored[:, -20:] = 0.1  # as many mistakes, but other ones
    others = dict.fromkeys(list(cleaning.MODES)[1:], mirrored)
    yield good._replace(
        weights=good.weights | others,
        accuracies=accuracies | {cleaning.BOTH: np.full(2, 0.81)},
    )
