"""Results of `batch_size_scaling`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import batch_size_scaling


def results():
    sizes, rates = 2 ** np.arange(9), np.logspace(-3.5, 0.5, 25)
    noise = 1 + 0.01 * np.random.default_rng(0).normal(size=(9, 25, 8))

    def of(best):
        distance = np.log(rates)[None] - np.log(best)[:, None]
        return batch_size_scaling.Result(sizes, rates, np.exp(distance**2)[..., None] * noise)

    yield of(0.01 * np.minimum(sizes, 16) ** 0.75)
    yield of(0.005 * np.maximum(sizes, 16.0) ** 0.75 / 8)
    yield of(0.2 / sizes)
    yield of(0.003 * np.minimum(sizes, 16) ** 1.4)
    yield of(0.003 * sizes**0.9)
