"""Results of `sharpness_and_generalization`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import sharpness_and_generalization as generalization


def results():
    rng = np.random.default_rng(0)
    rates = np.repeat([0.1, 0.2, 0.4, 0.8], 9)
    noise = lambda: rng.normal(size=rates.size)
    good = generalization.Result(
        rates=rates,
        error=0.22 + 0.01 * rates + 0.002 * noise(),
        gap=0.3 + 0.2 * rates + 0.02 * noise(),
        sharpness={"largest eigenvalue": np.exp(0.3 * noise()) / rates},
    )
    yield good
    # the tutorial's claim, at rates that say nothing
    eigenvalue = good.sharpness["largest eigenvalue"]
    yield good._replace(gap=eigenvalue, error=eigenvalue, rates=rng.permutation(rates))
    few = lambda values: values[::4]
    yield good._replace(
        rates=few(rates),
        error=few(good.error),
        gap=few(noise()),
        sharpness={"largest eigenvalue": few(eigenvalue)},
    )
