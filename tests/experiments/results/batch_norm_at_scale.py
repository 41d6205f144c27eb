"""Results of `batch_norm_at_scale`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import batch_norm_at_scale as scale


def results():
    draws = np.exp(np.random.default_rng(0).normal(size=8))
    plain = {"start": 10 * draws, "trained": 40 * draws**0.2}
    normed = {"start": 12 * draws**0.1, "trained": 10 * draws**0.1}
    losses = dict.fromkeys(scale.MODELS, np.linspace(2.5, 0.5, 9) * np.ones((8, 1)))
    good = scale.Result({"plain": plain, "BatchNorm": normed}, 1.0, losses)
    yield good
    yield good._replace(eigenvalues={"plain": normed, "BatchNorm": plain})
    lower = {"start": normed["start"] / 100, "trained": normed["trained"]}
    yield good._replace(eigenvalues={"plain": plain, "BatchNorm": lower})
    yield good._replace(converged=0.9)
    yield good._replace(losses=dict.fromkeys(scale.MODELS, np.full((8, 9), 2.5)))
