"""Results of `step_size_and_curvature`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import step_size_and_curvature as step
from experiments.descent.step_size_and_curvature import BEST, LIMIT, SAFE, SLOW


def results():
    rates = np.array([SLOW, SAFE, BEST, 1.05 * LIMIT])
    predicted = np.abs(1 - rates[:, None] * np.array([1.0, 20.0])).max(axis=1)
    steps = np.array([np.inf, 270.0, 138.0, np.inf])
    good = step.Result(rates, np.tile(predicted[:, None], 4), predicted, steps[:, None], {})
    yield good
    # As if 1/lambda_max were optimal, and nothing diverged.
    factor = np.array([0.5, 0.3, 0.4, 0.9])[:, None]
    yield good._replace(factor=factor, steps=np.array([10.0, 4.0, 5.0, 50.0])[:, None])
    yield good._replace(factor=1.1 + 0 * factor)
