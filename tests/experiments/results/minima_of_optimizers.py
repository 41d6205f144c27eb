"""Results of `minima_of_optimizers`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import minima_of_optimizers as minima


def results():
    end = {
        "SGD": np.array([16.0, 18.0]), "momentum": np.array([29.0, 34.0]),
        "Adam": np.array([41.0, 50.0]),
    }  # fmt: skip
    good = minima.Result(np.array([10.0, 36.0]), end, dict.fromkeys(end, np.full(2, 0.4)))
    yield good
    yield good._replace(end=end | {"SGD": np.full(2, 87.0), "momentum": np.full(2, 500.0)})
    yield good._replace(end=dict.fromkeys(end, np.full(2, 15.0)) | {"SGD": np.full(2, 17.0)})
