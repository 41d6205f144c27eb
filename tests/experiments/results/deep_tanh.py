"""Results of `deep_tanh`: one as it should be, then falsified ones."""

import numpy as np

from experiments.initialization import deep_tanh as tanh


def around(mean, num_runs=12, scatter=0.01, seed=0):
    """Return runs that scatter around a mean by a relative amount."""
    noise = np.random.default_rng(seed).standard_normal((num_runs, *np.shape(mean)))
    return np.asarray(mean) * (1 + scatter * noise)


def results():
    layers = np.arange(50)
    predicted = {
        tanh.XAVIER: 1 / (1 + 2 * layers),
        tanh.GAIN: np.ones(50),
        tanh.EDGE: np.full(50, 0.57),
    }
    chi = {tanh.GAIN: 1.178, tanh.EDGE: 1.0}
    growth = chi | {tanh.XAVIER: 0.9}
    good = tanh.Result(
        variances={name: around(values) for name, values in predicted.items()},
        gradients={name: around(factor ** layers[::-1]) for name, factor in growth.items()},
        predicted=predicted,
        q_star=0.57,
        chi=chi,
        width=256,
    )
    yield good
    # What the tutorial says: a variance that settles at .25.
    yield good._replace(variances=good.variances | {tanh.XAVIER: around(np.full(50, 0.25))})
    yield good._replace(variances={n: 1.5 * values for n, values in good.variances.items()})
    yield good._replace(
        gradients={n: around((1.03 * growth[n]) ** layers[::-1]) for n in good.gradients}
    )
