"""Results of `bad_initialization`: one as it should be, then falsified ones."""

import numpy as np

from experiments.optimization import bad_initialization as bad


def results():
    lost, found = np.full(3, 0.1), np.full(3, 0.75)
    test = {name: {"SGD": lost, "momentum": lost, "Adam": found} for name in bad.INITIALIZERS}
    yield bad.Result(1000, test, {})
    swapped = {"SGD": found, "momentum": found, "Adam": lost}
    yield bad.Result(1000, {name: swapped for name in test}, {})
