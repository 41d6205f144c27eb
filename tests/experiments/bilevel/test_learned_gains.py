"""Networks and training are what they say, and a quick run passes."""

import jax
import numpy as np
import pytest

from experiments.bilevel import learned_gains as gains


def test_networks_of_kaimings_gain_keep_the_second_moment_of_a_hidden_layer():
    rng = np.random.default_rng(0)
    first, second, _ = gains.init(rng, [400, 400, 400, 10])
    x = rng.standard_normal((200, 400))
    hidden = np.maximum(x @ first, 0)
    ratio = np.mean((np.maximum(hidden @ (2**0.5 * second), 0)) ** 2) / np.mean(hidden**2)
    # a mean square over 400 units scatters by the root of 5 / 400, as ReLU's fourth moment is 6
    # times its second's square, and the layer before scatters alike
    assert abs(ratio - 1) < 4 * np.sqrt(2 * 5 / 400)


@pytest.mark.slow
def test_training_starts_from_the_scaled_weights():
    rng = np.random.default_rng(0)
    params = [kernel[None] for kernel in gains.init(rng, [4, 3, 10])]
    inputs = rng.standard_normal((1, 4, 2, 4)).astype(np.float32)
    batches = inputs, rng.integers(10, size=(1, 4, 2))
    validation = inputs[:, 0], batches[1][:, 0]
    factors = np.array([[1.0, 1.0], [2.0, 0.5]], np.float32)
    short, _ = gains.train_and_validate(factors, params, batches, validation)
    # ReLU passes a factor on: the products of the gains are equal, so are the first losses, but
    # the first step is not
    start = [factor * kernel[0] for factor, kernel in zip(factors[1], params, strict=True)]
    batch = jax.tree.map(lambda a: a[0, 0], batches)
    grads = jax.grad(gains.loss_fn)(start, batch)
    norm = np.sqrt(sum(np.sum(np.square(grad)) for grad in grads))
    stepped = [k - 0.1 / max(1.0, norm) * g for k, g in zip(start, grads, strict=True)]
    expected = gains.loss_fn(stepped, jax.tree.map(lambda a: a[0], validation))
    np.testing.assert_allclose(short[1, 0], expected, rtol=1e-5)
    assert abs(short[0, 0] - short[1, 0]) > 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("full_products")
def test_a_quick_run_passes_and_one_on_labels_without_meaning_does_not(monkeypatch):
    config = gains.Config().quick()
    assert [c.text for c in gains.check(gains.run(config)) if not c.holds] == []
    prepare = gains.prepare

    def shuffled(images, labels, dataset):
        return prepare(images, np.random.default_rng(0).permutation(labels), dataset)

    monkeypatch.setattr(gains, "prepare", shuffled)
    failed = [claim.text for claim in gains.check(gains.run(config)) if not claim.holds]
    assert "product of 6 gains over Kaiming's" in failed
