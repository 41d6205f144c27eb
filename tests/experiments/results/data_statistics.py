"""Results of `data_statistics`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import data_statistics as statistics


def results():
    good = statistics.Result(
        data="mini",
        mean=0.2861,
        std=0.3530,
        standard_error=0.0016,
        batch_means=np.array([0.01, -0.01]),
        batch_stds=np.array([1.01, 0.99]),
        smallest=-0.8105,
        largest=2.0224,
        rarest=0.1,
        pixel_stds=np.array([[0.001, 1.1]]),
        examples=np.zeros((10, 28, 28)),
        values={},
    )
    yield good
    yield good._replace(mean=0.3, std=0.37, smallest=-1.0, largest=1.0, rarest=0.09)
    yield good._replace(batch_means=np.full(2, 0.04), batch_stds=np.full(2, 1.04))
    yield good._replace(pixel_stds=np.ones((28, 28)))
