"""The predictions are what they say, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.diagnosis import tapped_variance as tapped
from experiments.diagnosis.tapped_variance import CASES


def test_predicted_gradients_follow_the_series_of_tanh():
    # chi = dV/dq for an odd activation at small q, where tanh(z)^2 = z^2 - 2 z^4 / 3: 1 - 2 q.
    images = np.full((3, 7), 1e-2, np.float32)
    found = tapped.predict_deep_gradients(images, 1.0, 0.0, 2)
    np.testing.assert_allclose(found, [1 - 2e-4, 1.0], rtol=1e-6)  # the next term is 5 q^2


def test_the_scatter_bounds_that_of_one_example():
    # One image: the relative variance of the first layer is 2/512 exactly, of the second one
    # (1 + 2/512)(1 + 2/256) - 1 behind the identity.
    up, down = tapped.scatter(CASES["1 over d_in"])
    np.testing.assert_allclose(up[:2] ** 2, [2 / 512, (1 + 2 / 512) * (1 + 2 / 256) - 1])
    assert down[-1] == 0


@pytest.mark.slow  # compiles two networks with all their taps
def test_a_quick_run_passes_and_taps_on_other_sites_do_not(monkeypatch):
    config = tapped.Config().quick()
    result = tapped.run(config)
    assert [claim.text for claim in tapped.check(result) if not claim.holds] == []
    assert list(tapped.plot(result)) == ["profiles"]
    record = tapped.taps.record_gradients

    def of_activations(loss_fn, select):
        del select
        return record(loss_fn, lambda site: site.kind == "activation")

    monkeypatch.setattr(tapped.taps, "record_gradients", of_activations)
    jax.clear_caches()
    images = jnp.ones((4, 784))
    keys = jax.random.split(jax.random.key(0), 2)
    signals, _ = tapped.measure(keys, images, jnp.full(5, 784**-0.5), 0.0)
    assert signals.shape == (2, 4)  # the last layer has no activation
    # The second moment of the first layer is 1 here, and the ReLU behind it leaves one half.
    assert np.all(signals[:, 0] < 0.7)
