"""The noise of gradients whose distribution is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.diagnostics import gradient_noise


def linear_loss(params, batch):
    """Have the rows of the batch themselves for gradients."""
    return jnp.mean(batch["a"] @ params["a"]) + jnp.mean(batch["b"] * params["b"])


PARAMS = {"a": jnp.zeros(3), "b": jnp.zeros(())}


def draw(key, num):
    keys = jax.random.split(key)
    a = jnp.array([1.0, 2.0, -1.0]) + 2.0 * jax.random.normal(keys[0], (num, 3))
    return {"a": a, "b": 0.5 + jax.random.normal(keys[1], (num,))}


@pytest.mark.parametrize("num_micro_batches", [4, 32], ids=["of 8", "of 1"])
def test_both_estimates_are_unbiased(num_micro_batches):
    def one(key):
        noise = gradient_noise(linear_loss, PARAMS, draw(key, 32), num_micro_batches)
        return noise.trace, noise.squared_norm, noise.leaves["a"].trace

    values = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 500)))
    # Variance 4 in three directions and 1 in one; means of squared size 6 and 1/4.
    for estimates, truth in zip(values, (13.0, 6.25, 12.0), strict=True):
        error = estimates.std() / np.sqrt(estimates.size)
        assert abs(estimates.mean() - truth) < 4 * error


def test_the_ratio_is_the_known_one_for_many_examples():
    noise = jax.jit(gradient_noise, static_argnums=(0, 3))(
        linear_loss, PARAMS, draw(jax.random.key(1), 40_000), 4_000
    )
    # The trace scatters by sqrt(2 / 4000) of each of its parts, the norm by less.
    np.testing.assert_allclose(noise.scale, 13 / 6.25, rtol=4 * np.sqrt(2 / 4000))
    np.testing.assert_allclose(noise.leaves["b"].scale, 4.0, rtol=0.2)


def test_equal_gradients_have_no_noise_and_zero_ones_no_ratio():
    batch = {"a": jnp.ones((6, 3)), "b": jnp.zeros(6)}
    noise = gradient_noise(lambda *args: (linear_loss(*args), "aux"), PARAMS, batch, 3)
    assert (noise.trace, noise.scale, noise.squared_norm) == (0, 0, 3)
    assert noise.leaves["b"].scale == jnp.inf


@pytest.mark.parametrize(
    ("num_examples", "num_micro_batches"), [(6, 4), (6, 1), (0, 2)], ids=["rest", "one", "none"]
)
def test_parts_that_are_not_equal_are_refused(num_examples, num_micro_batches):
    message = rf"micro-batches of equal size, got num_micro_batches={num_micro_batches} of \[\d\]"
    with pytest.raises(ValueError, match=message):
        gradient_noise(
            linear_loss, PARAMS, draw(jax.random.key(0), num_examples), num_micro_batches
        )
