"""Results of `phase_diagram`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import phase_diagram as phases
from experiments.initialization.phase_diagram import ACTIVATIONS


def results():
    weight_variances, bias_variances = np.linspace(0.5, 5, 6), np.array([0.01, 0.1, 0.5])
    fine = phases.refine(weight_variances), phases.refine(bias_variances)
    fine_chi = np.tile(fine[0] / 2, (len(fine[1]), 1))
    chi = fine_chi[:: phases.FINER, :: phases.FINER]
    noise = 0.01 * np.random.default_rng(0).standard_normal(chi.shape)
    accuracy = 0.1 + 0.3 * np.exp(-np.square(3 * np.log(chi))) + noise
    good = phases.Result(
        weight_variances,
        bias_variances,
        dict.fromkeys(ACTIVATIONS, accuracy),
        dict.fromkeys(ACTIVATIONS, chi),
        24,
        fine,
        dict.fromkeys(ACTIVATIONS, fine_chi),
    )
    yield good
    # As if networks trained best where gradients vanish.
    yield good._replace(accuracy=dict.fromkeys(ACTIVATIONS, 1 / chi))
