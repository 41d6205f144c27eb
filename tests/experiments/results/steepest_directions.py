"""Results of `steepest_directions`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import steepest_directions as steepest
from experiments.descent.steepest_directions import ANGLES, NORMS, PLANE


def results():
    ones, steps = np.ones(3), np.arange(101)
    slow, fast = (9 / 11) ** (2.0 * steps), np.where(steps < 2, 1.0, 0.0)
    aligned, turned = ANGLES
    good = steepest.Result(
        unit=dict.fromkeys(NORMS, ones),
        gain=dict.fromkeys(NORMS, ones),
        best_random=dict.fromkeys(NORMS, 0.8 * ones),
        decrease=dict.fromkeys(NORMS, ones),
        losses={
            aligned: {"L1": fast, "L2": slow, "LInf": slow},
            turned: {"L1": slow, "L2": slow, "LInf": fast},
        },
        paths={},
    )
    yield good
    # As if a random direction were better, and the axes changed nothing but the gradient's path.
    yield good._replace(
        gain=dict.fromkeys(NORMS, 0.9 * ones),
        best_random=dict.fromkeys(NORMS, 1.1 * ones),
        decrease=dict.fromkeys(NORMS, 0.9 * ones),
        losses={
            aligned: {"L1": slow, "L2": fast, "LInf": fast},
            turned: dict.fromkeys(PLANE, np.ones(101)) | {"L1": fast},
        },
    )
