"""Results of `thousand_layers`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import thousand_layers as deep
from experiments.initialization.thousand_layers import GAUSSIAN, ISOMETRIC, STARTS, XAVIER


def results(depth=100):
    scores = {ISOMETRIC: [0.7, 0.2], GAUSSIAN: [0.3, 0.1], XAVIER: [0.15, 0.1]}
    flat, steep = np.geomspace(2, 0.8, 64), np.geomspace(1, 1e-9, 64)
    good = deep.Result(
        rates=np.array([1.0, 3.0]),
        losses={name: np.ones((2, 30)) for name in STARTS},
        accuracy={name: np.array(values) for name, values in scores.items()},
        singular_values={ISOMETRIC: flat, GAUSSIAN: steep, XAVIER: steep},
        depth=depth,
        num_test=1000,
    )
    yield good
    # As if the start did not matter, or the other way round.
    yield good._replace(accuracy=dict.fromkeys(STARTS, np.array([0.7, 0.7])))
    yield good._replace(
        accuracy=dict.fromkeys(STARTS, np.array([0.1, 0.1])),
        singular_values={ISOMETRIC: steep, GAUSSIAN: flat, XAVIER: flat},
    )


def results_full():
    yield from results(1000)
