"""Results of `mode_connectivity`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import mode_connectivity


def results():
    noise = 1 + 0.01 * np.random.default_rng(0).normal(size=4)
    t = np.linspace(0, 1, 5)

    def result(*barriers):
        kinds = mode_connectivity.KINDS
        heights = {kind: high * noise for kind, high in zip(kinds, barriers, strict=True)}
        losses = {kind: 0.1 + np.outer(of, 4 * t * (1 - t)) for kind, of in heights.items()}
        return mode_connectivity.Result(t, losses, heights)

    yield result(1.3, 0.01, 0.06)
    yield result(0.1, 0.001, 0.006)
    yield result(1.3, 0.5, 0.06)
    yield result(1.3, 0.01, 0.5)
