"""Results of `stochastic_escape`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import stochastic_escape as escape
from experiments.descent.stochastic_escape import CASES, FULL, QUIET, TRUTH


def results():
    poor = np.array([3.7, 6.3])
    stay = np.tile(poor[:, None], 50)
    ends = {name: stay if name in (FULL, *QUIET) else np.full((2, 50), TRUTH) for name in CASES}
    good = escape.Result(poor, 11, ends, {}, np.array([1.0, 1.5, 1e-6]))
    yield good
    # As if the full gradient did it, and the noise were elsewhere.
    swapped = {name: np.full((2, 50), 8.0) - end for name, end in ends.items()}
    swapped |= dict.fromkeys((FULL, *QUIET), np.full((2, 50), TRUTH))
    yield escape.Result(poor, 1, swapped, {}, np.array([1e-6, 1e-6, 1.0]))
