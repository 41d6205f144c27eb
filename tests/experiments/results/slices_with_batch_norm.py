"""Results of `slices_with_batch_norm`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import slices_with_batch_norm as slices


def results():
    coords = np.linspace(-1, 1, 5)
    noise = 1 + np.random.default_rng(0).normal(size=(5, 5)) / 100
    own = noise * (0.5 + 1.5 * coords**2)
    frozen = own * np.exp(0.7 * coords**2)
    good = slices.Result(coords, {"frozen": frozen, "reestimated": own, "batch": own * (1 + 1e-7)})
    yield good
    yield good._replace(losses=good.losses | {"frozen": own})
    yield good._replace(losses=good.losses | {"frozen": 2 * frozen})
    yield good._replace(losses=good.losses | {"batch": 1.01 * own})
