"""Results of `kill_and_resume`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import kill_and_resume


def results():
    losses = np.linspace(2.0, 0.5, 200)
    at, lost = np.arange(10, 190, 9), np.full(20, -3)
    good = kill_and_resume.Result(20, 0, at, lost, losses, losses, 0.8 * losses)
    yield good
    yield good._replace(bits=1)
    yield good._replace(lost=lost[1:])
    yield good._replace(lost=lost + 4)
    yield good._replace(weights_alone=losses)
    yield good._replace(weights_alone=0.95 * losses)
