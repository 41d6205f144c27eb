"""Results of `ravine`: one as it should be, then falsified ones."""

import numpy as np

from experiments.optimization import ravine


def results():
    rates = np.array([0.1, 0.3, 1, 3, 5, 10, 20, 100])

    def runs(arrives):
        return np.tile(np.where(np.isin(rates, arrives), 0.01, 1.0)[:, None], 5)

    tail = {"SGD": runs([]), "momentum": runs([5, 10]), "Adam": runs([0.1, 0.3, 1, 3])}
    good = ravine.Result(rates, tail, tail | {"SGD": runs([1])}, {})
    yield good
    yield good._replace(tail={n: 1.01 - t for n, t in tail.items()}, long_tail=tail)
    everywhere = runs(rates)
    yield good._replace(tail=dict.fromkeys(tail, everywhere))
    yield good._replace(tail=dict.fromkeys(tail, runs([1, 3])))
