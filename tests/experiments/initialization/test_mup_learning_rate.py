"""The helpers do what they say."""

import jax
import numpy as np

from experiments.initialization import mup_learning_rate as experiment
from tests.experiments.results.mup_learning_rate import RATES, valley


def test_best_rates_are_exact_for_a_parabola():
    best = [0.003, 0.01, 0.02]
    np.testing.assert_allclose(experiment.best_rates(RATES, valley(best)), best, rtol=1e-9)
    overflowed = np.where(np.arange(len(RATES)) > 3, np.nan, valley([0.02]))
    np.testing.assert_allclose(experiment.best_rates(RATES, overflowed), RATES[3])


def test_both_parametrisations_are_one_at_the_base_width():
    standard, maximal = experiment.factors(32, 32)
    assert standard == maximal
    assert set(jax.tree.leaves(standard)) == {1.0}
    standard, (on_init, on_rate) = experiment.factors(32, 128)
    assert set(jax.tree.leaves(standard)) == {1.0}
    assert on_rate[1]["kernel"] == 0.25
    assert on_init[-1]["kernel"] == 0.5


def test_weights_are_drawn_with_the_variance_of_kaiming():
    layers = experiment.draw(256, 0)
    assert jax.tree.map(np.shape, layers) == jax.tree.map(np.shape, experiment.make_params(256))
    for layer, gain in zip(layers, (1, 2, 2, 2), strict=True):
        kernel = layer["kernel"]
        # The mean square of n normal numbers scatters by a relative root of 2 / n.
        tolerance = 4 * np.sqrt(2 / kernel.size)
        np.testing.assert_allclose(np.mean(kernel**2) * len(kernel) / gain, 1, rtol=tolerance)
