"""Results of `tapped_variance`: one as it should be, then falsified ones."""

import numpy as np

from experiments.diagnosis import tapped_variance as tapped
from experiments.diagnosis.tapped_variance import CASES, EDGE, XAVIER
from experiments.initialization import initializer_variance as variance


def around(mean, num_runs=12, scatter=0.01):
    noise = np.random.default_rng(0).standard_normal((num_runs, len(mean)))
    return np.asarray(mean) * (1 + scatter * noise)


def moments(signals, gradients):
    return tapped.Moments(around(signals), around(gradients), signals, gradients)


def results():
    images = np.ones((2, 784))
    cases = {
        name: moments(variance.predict(case, images), tapped.predict_gradients(case))
        for name, case in CASES.items()
    }
    layers = np.arange(50)
    below = layers[::-1]
    deep = {
        XAVIER: moments(1 / (1 + 2 * layers), (1 + layers) / 50),
        EDGE: moments(np.full(50, 0.57), np.ones(50)),
    }
    good = tapped.Result(cases, deep, 1e-7, 256)
    yield good
    # Taps that read something else than the layers' values, and a deep network that settles.
    yield tapped.Result(
        {n: c._replace(signals=2 * c.signals, gradients=c.gradients**2) for n, c in cases.items()},
        {
            n: c._replace(signals=around(np.full(50, 0.25)), gradients=c.gradients * 1.1**below)
            for n, c in deep.items()
        },
        0.1,
        256,
    )
    ones = around(np.ones(5))
    yield good._replace(cases={n: c._replace(gradients=3 * ones) for n, c in cases.items()})
