"""Results of `flat_and_sharp`: one as it should be, then falsified ones."""

import numpy as np

from experiments.optimization import flat_and_sharp as wells


def results():
    rates = np.geomspace(1e-3, 1, 16)
    good = wells.Result(
        train_loss=np.array([0.0, -1e-3]),
        test_loss=np.array([0.0477, 0.886]),
        curvature=np.array([1.56, 69.4]),
        learning_rates=rates,
        settled={},
        final_test={"SGD": np.where(rates < 0.029, 0.47, 0.28)[:, None]},
    )
    limits = wells.limits(good)
    good = good._replace(
        settled={n: np.tile((rates < limit)[:, None], 4) for n, limit in limits.items()}
    )
    yield good
    yield good._replace(
        train_loss=np.array([0.0, 0.1]),
        test_loss=good.test_loss[::-1],
        settled={n: ~settled for n, settled in good.settled.items()},
        final_test={"SGD": np.full((16, 1), 0.47)},
    )
