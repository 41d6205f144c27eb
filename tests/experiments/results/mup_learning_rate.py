"""Results of `mup_learning_rate`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import mup_learning_rate as experiment

RATES = 2.0 ** np.arange(-10, -3)


def valley(best, height=0.5):
    """Return losses that are a parabola in the logarithm of the rate, one row a width."""
    gap = np.log2(RATES)[None, :] - np.log2(np.asarray(best))[:, None]
    return np.asarray(height)[..., None] + 0.1 * gap**2


def results():
    widths = np.array([32, 64, 128])
    falling, staying = valley(1 / widths), valley([1 / 32] * 3, [0.5, 0.45, 0.4])
    good = np.stack([falling, staying], axis=1)[..., None]
    yield experiment.Result(widths, RATES, good, ("1/kernel", "2/kernel"))
    # As if the two had changed places, and all leaves grew alike.
    yield experiment.Result(widths, RATES, good[:, ::-1], ())
