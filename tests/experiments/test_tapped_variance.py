"""The claims hold on a good result, each can fail, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = tapped.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in tapped.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


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
