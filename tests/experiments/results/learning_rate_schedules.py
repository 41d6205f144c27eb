"""Results of `learning_rate_schedules`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import learning_rate_schedules as experiment
from experiments.descent.learning_rate_schedules import RATES, schedules


def results():
    names = tuple(schedules(1.0, 100))
    ends = np.array([[0.4, 0.41, 0.48, 0.4, 0.4], [0.42, 0.37, 0.4, 0.34, 0.33]])
    ends = np.concatenate([ends, [[1.0, 0.7, 0.5, 0.45, 0.4]]])[..., None]
    highest = np.ones((len(RATES), len(names), 1))
    calm = highest.copy()
    calm[:, names.index("warm-up, cosine")] = 0.5
    good = experiment.Result(names, np.ones((5, 100)), ends, calm, np.ones((5, 5)))
    yield good
    # As if the constant rate were best, but where it is small.
    yield good._replace(losses=2 * ends.mean() - ends, highest=highest)
    worse = ends.copy()
    worse[1, 1:] = 1.0
    yield good._replace(losses=worse)
