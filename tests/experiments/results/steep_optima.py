"""Results of `steep_optima`: one as it should be, then falsified ones."""

import numpy as np

from experiments.optimization import steep_optima


def results():
    rates = np.array([0.1, 0.2, 0.5, 1.0])
    zero, one = np.zeros((4, 5)), np.ones((4, 5))
    good = steep_optima.Result(
        rates,
        {"SGD": zero, "momentum": zero, "Adam": one},
        {"SGD": zero, "momentum": one, "Adam": one},
        {"momentum": np.array([[0.0, 0.0], [3.0, 6.0]])},
        {"SGD": 0.98, "momentum": 0.6, "Adam": 1.0},
        {"SGD": 1e-10},
    )
    yield good
    yield good._replace(
        depth={"SGD": one, "momentum": one, "Adam": zero},
        long_depth=good.depth,
        paths={"momentum": np.zeros((2, 2))},
        deepest=dict.fromkeys(good.deepest, 0.1),
        later_deepest={"SGD": 0.9},
    )
