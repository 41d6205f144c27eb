"""Results of `optimizer_comparison`: one as it should be, then falsified ones."""

import numpy as np

from experiments.optimization import optimizer_comparison as comparison


def results(data="mini"):
    def result(test, first, last):
        def curves(gap=0.0):
            return {n: np.array([[first[n], last - gap]]) for n in first}

        return comparison.Result(
            data, 1000, {n: np.array([v]) for n, v in test.items()}, curves(), curves(0.1), curves()
        )

    test = {"SGD": 0.885, "momentum": 0.884, "Adam": 0.889}
    first = {"SGD": 0.56, "momentum": 0.58, "Adam": 0.65}
    yield result(test, first, 0.98)
    yield result({n: v + 0.05 for n, v in test.items()}, first, 0.98)
    yield result(test | {"Adam": 0.84}, first, 0.98)
    yield result(test, {"SGD": 0.7, "momentum": 0.68, "Adam": 0.65}, 0.89)


def results_full():
    yield from results("full")
