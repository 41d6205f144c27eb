"""Results of `sgd_or_adam_generalise`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import sgd_or_adam_generalise as experiment

NOISE = 0.004 * np.linspace(-1, 1, 20)


def results():
    def both(sgd, adam):
        return {"SGD": np.asarray(sgd), "Adam": np.asarray(adam)}

    rates, losses = np.array([0.1, 0.2, 0.4]), np.array([0.60, 0.62, np.inf])
    good = experiment.Result(
        accuracy=both(0.775 + NOISE, np.full(20, 0.777)),
        test_loss=both(np.full(20, 0.64), np.full(20, 0.63)),
        train_loss=both(np.full(20, 0.445), np.full(20, 0.447)),
        reached=both(np.ones(20), np.ones(20)),
        steps=both(np.full(20, 900), np.full(20, 500)),
        rates=both(rates, rates),
        validation=both(losses, losses),
    )
    yield good
    yield good._replace(reached=both(np.arange(20) > 2, np.arange(20) > 2))
    yield good._replace(train_loss=both(np.full(20, 0.40), np.full(20, 0.447)))
    yield good._replace(accuracy=both(0.80 + NOISE, np.full(20, 0.777)))
    yield good._replace(validation=both([0.600, 0.604, np.inf], losses))
