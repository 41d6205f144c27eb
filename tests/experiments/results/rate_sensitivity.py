"""Results of `rate_sensitivity`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import rate_sensitivity
from tests.experiments.results.optimizer_race import race_of


def results():
    draws = np.random.default_rng(0).normal(size=(200, 3)) / 10
    good = rate_sensitivity.Result(race_of(1.0), 0.7 + draws, np.array([1.9, 0.5, -0.1]) + draws)
    yield good
    yield good._replace(off=draws - 1.0)
    yield good._replace(off=np.array([1.0, 1.0, 2.0]) + draws)
    yield good._replace(spread=np.array([2.0, 1.0, 0.5]) + draws)
