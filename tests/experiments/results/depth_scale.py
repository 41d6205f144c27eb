"""Results of `depth_scale`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import depth_scale as scales
from experiments.initialization.depth_scale import GROUPS

SCALES = dict(zip(GROUPS, [(3.6, 10.7), (5.0, 3.0), (2.0, 4.5), (1.1, 2.4)], strict=True))


def decays(scale, num_networks=12, scatter=0.01):
    noise = np.random.default_rng(0).standard_normal((num_networks, 24))
    return np.exp(-np.arange(24) / scale) * (1 + scatter * noise)


def results():
    predicted = {name: np.array(pair) for name, pair in SCALES.items()}
    gaps = {name: np.stack([decays(scale) for scale in pair]) for name, pair in SCALES.items()}
    good = scales.Result(gaps, predicted, np.ones(2), np.array([3.0, 100.0]))
    yield good
    # A theory that is a tenth off, of scales that are all alike, and of no edge of chaos.
    yield good._replace(predicted={name: 1.1 * values for name, values in predicted.items()})
    same = {name: np.full(2, 4.0) for name in GROUPS}
    yield good._replace(predicted=same, curve=np.ones(2))
