"""Helpers of `batch_size_scaling`."""

import numpy as np

from experiments.training import batch_size_scaling


def test_slopes_are_those_of_best_rates_between_those_tried():
    sizes, rates = 2 ** np.arange(9), np.logspace(-4, 0, 21)
    best = 0.003 * np.minimum(sizes, 16) ** 0.75
    distance = np.log(rates)[None] - np.log(best)[:, None]
    result = batch_size_scaling.Result(sizes, rates, np.exp(distance**2)[..., None])
    # the logarithm of these losses is a parabola, whose vertex is found to rounding
    found = batch_size_scaling.best_rates(rates, result.losses)
    np.testing.assert_allclose(found, np.log2(best), atol=1e-9)
    np.testing.assert_allclose(batch_size_scaling.slopes(result, result.losses), [0.75, 0.0],
                               atol=1e-9)  # fmt: skip


def test_what_diverged_is_not_best():
    rates = np.logspace(-3, 0, 4)
    losses = np.array([[[3.0], [2.0], [np.inf], [np.inf]]])
    found = batch_size_scaling.best_rates(rates, losses)
    np.testing.assert_allclose(found, np.log2(rates[1]))
