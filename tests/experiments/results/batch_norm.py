"""Results of `batch_norm`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import batch_norm as norm
from experiments.descent.batch_norm import INPUTS


def results():
    before, after = np.array([[10.0, 1.0, 0.1]]), np.array([[5.0, 1.5, 0.1]])
    eigenvalues = {
        INPUTS[0]: {"plain": before, "BatchNorm": after},
        INPUTS[1]: {"plain": np.array([[5000.0, 1.0, 0.1]]), "BatchNorm": after},
    }
    losses = {"plain": np.array([[1.0], [np.inf]]), "BatchNorm": np.array([[0.9], [0.5]])}
    good = norm.Result(
        {"before": 1e6, "after": 1e3},
        eigenvalues,
        np.array([0.1, 1.0]),
        dict.fromkeys(INPUTS, losses),
    )
    yield good
    losses = {"plain": np.array([[0.4]]), "BatchNorm": np.array([[0.9]])}
    # As if it made everything worse.
    worse = {"plain": after, "BatchNorm": before}
    yield good._replace(
        linear_condition={"before": 1e3, "after": 1e3},
        eigenvalues={INPUTS[0]: worse, INPUTS[1]: {"plain": after, "BatchNorm": 100 * before}},
        losses=dict.fromkeys(INPUTS, losses),
    )
