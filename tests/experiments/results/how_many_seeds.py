"""Results of `how_many_seeds`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import how_many_seeds


def results():
    seeds = np.array([5, 6, 11, 12, 20, 28])
    alone = np.array([[0, 0.1, 0.5, 0.6, 0.79, 0.9], [0, 0.8, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]])
    among = np.array([[0, 0, 0, 0.1, 0.2, 0.5], [0, 0, 0, 0.8, 1, 1], [0, 0, 0, 1, 1, 1]])
    factors = np.array([1.1, 1.2, 1.5])
    good = how_many_seeds.Result(seeds, factors, alone, among, 0.024, 0.05)
    yield good
    yield good._replace(alone=alone + 0.1)
    yield good._replace(among=among + 0.1)
    yield good._replace(among=0 * among)
    yield good._replace(alone=0 * alone)
    yield good._replace(paired=0.05)
