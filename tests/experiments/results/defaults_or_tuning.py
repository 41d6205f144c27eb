"""Results of `defaults_or_tuning`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import defaults_or_tuning


def results():
    noise = np.random.default_rng(0).normal(size=(3, 3, 6)) / 100

    def result(ours=(-0.5, -0.5, -0.4), theirs=(0.3, 0.4, -0.4)):
        tried = {
            "the tutorials'": np.array(ours)[:, None] + noise[1],
            "PyTorch's": np.array(theirs)[:, None] + noise[2],
        }
        return defaults_or_tuning.Result(noise[0], tried, 200)

    yield result()
    yield result(ours=(0.5, 0.2, 0.2))
    yield result(theirs=(-0.6, -0.5, -0.4))
