"""Results of `repaired_initialization`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import repaired_initialization as experiment
from experiments.initialization.repaired_initialization import BROKEN, HEALTHY


def results():
    noise = 0.02 * np.random.default_rng(0).standard_normal((6, 5, 1))
    means = {
        HEALTHY: 0.95,
        BROKEN: 8.0,
        "auto_init": 0.96,
        "LSUV": 0.95,
        "MetaInit": 7.0,
        "GradInit": 1.2,
    }
    levels = [1.0, 1e4, 1.0, 1.0, 2e4, 0.01]
    good = experiment.Result(
        losses={
            name: np.full((5, 30), mean) + noise[i] for i, (name, mean) in enumerate(means.items())
        },
        variances={name: np.full((5, 3), level) for name, level in zip(means, levels, strict=True)},
        quotients=np.full(5, 0.5),
    )
    yield good
    # As if only MetaInit repaired.
    swapped = {name: 8 + noise[i] + np.zeros((5, 30)) for i, name in enumerate(means)}
    swapped[HEALTHY] = swapped["MetaInit"] = good.losses[HEALTHY]
    yield good._replace(
        losses=swapped,
        variances=dict.fromkeys(means, np.ones((5, 3)))
        | {"GradInit": np.full((5, 3), 2.0), BROKEN: np.full((5, 3), 1e4)},
        quotients=np.ones(5),
    )
    # As if nothing were wrong, and GradInit better than all.
    fine = {name: 0.95 + noise[i] + np.zeros((5, 30)) for i, name in enumerate(means)}
    yield good._replace(losses=fine | {"GradInit": 0.5 * fine["GradInit"]})
