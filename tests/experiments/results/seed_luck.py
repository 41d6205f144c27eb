"""Results of `seed_luck`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import seed_luck


def results():
    def result(same=0.9, split=0.05, two=0.06, one=0.17, ratio=0.97):
        shares = dict(zip(seed_luck.PROTOCOLS, (same, split, two, 0.12, one), strict=True))
        p_values = {
            name: np.where(np.arange(200) < 200 * share, 0.01, 0.5)
            for name, share in shares.items()
        }
        return seed_luck.Result(p_values, {name: np.full(200, ratio) for name in shares})

    yield result()
    yield result(same=0.5, ratio=1.01)
    yield result(split=0.2)
    yield result(two=0.3)
    yield result(one=0.05)
