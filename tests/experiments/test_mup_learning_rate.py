"""The claims hold on a good result, each can fail, and the helpers do what they say."""

import jax
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


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = experiment.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in experiment.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


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
