"""Results of `deep_equilibrium`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import deep_equilibrium as deep
from experiments.bilevel.deep_equilibrium import DEPTHS, EQUILIBRIUM, NETWORKS, ONE_STEP, UNROLLED


def results():
    layers = np.array(DEPTHS)
    gradient = np.array([3.0, -4.0, 1.0])
    good = deep.Result(
        accuracies={UNROLLED: 0.82, EQUILIBRIUM: 0.81, ONE_STEP: 0.8},
        num_test=1000,
        losses={},
        gradients={
            UNROLLED: gradient,
            EQUILIBRIUM: gradient * 1.0001,
            ONE_STEP: gradient + np.array([0.5, 0.5, 0.5]),
        },
        num_bytes={
            UNROLLED: 500 + 80_000 * layers,
            EQUILIBRIUM: np.full(3, 3e6),
            ONE_STEP: np.full(3, 6e5),
        },
        seconds={},
    )
    yield good
    # as if it had not learned
    yield good._replace(accuracies=dict.fromkeys(NETWORKS, 0.1))
    # as if only unrolling did
    yield good._replace(accuracies={UNROLLED: 0.82, EQUILIBRIUM: 0.75, ONE_STEP: 0.9})
    yield good._replace(
        gradients={UNROLLED: gradient, EQUILIBRIUM: gradient * 1.01, ONE_STEP: -gradient}
    )
    # as if the steps were kept after all, and layers were not
    yield good._replace(
        num_bytes={
            UNROLLED: 1e5 * layers**0.5,
            EQUILIBRIUM: 1e5 * layers,
            ONE_STEP: 1e5 * layers,
        }
    )
