"""Training and the Jacobian are what they say, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.initialization import thousand_layers as deep
from experiments.initialization.thousand_layers import XAVIER
from jaxopt_tut.initializers import critical


@pytest.mark.slow  # compiles a training run
def test_training_follows_the_gradient_in_the_order_given():
    edge = critical(jnp.tanh, deep.BIAS_VARIANCE)
    params = deep.draw(jax.random.key(0), edge, XAVIER, 3, 8)
    images = jax.random.normal(jax.random.key(1), (6, 784))
    data = images, jnp.arange(6)
    order = jnp.array([4, 1, 5, 0])
    losses, accuracy = deep.train(params, 0.1, order, data, data, 2)
    for k, chosen in enumerate(order.reshape(2, 2)):
        loss, gradients = jax.value_and_grad(deep.loss_fn)(params, images[chosen], chosen)
        # Sums of 784 terms in single precision, in another order.
        np.testing.assert_allclose(losses[k], loss, rtol=784 * 2.0**-23)
        params = jax.tree.map(lambda w, g: w - 0.1 * g, params, gradients)
    assert np.isclose(accuracy, np.mean(deep.logits_of(params, images).argmax(1) == np.arange(6)))


@pytest.mark.usefixtures("full_products")
def test_the_jacobian_of_small_signals_is_the_product_of_the_weights():
    params = {"first": jnp.eye(784, 8), "bias": jnp.zeros((3, 8))}
    params["stack"] = jax.random.normal(jax.random.key(0), (3, 8, 8))
    # tanh'(z) = 1 - z^2 is 1 to single precision here.
    found = deep.jacobian_spectrum(params, jnp.full(784, 1e-8))
    first, second, third = np.asarray(params["stack"], np.float64)
    expected = np.linalg.svd(first @ second @ third, compute_uv=False)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected[0])


@pytest.mark.slow  # trains three networks of 100 layers
def test_a_quick_run_passes():
    result = deep.run(deep.Config().quick())
    assert [claim.text for claim in deep.check(result) if not claim.holds] == []
    assert list(deep.plot(result)) == ["training"]
