"""Mean-field theory against random networks of finite width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.initializers import equal_variance, gain, mean_field, variance_map

pytestmark = pytest.mark.slow

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
}
NUM_KEYS, DEPTH, WIDTH = 40, 50, 200
BIAS_VARIANCE = 0.3


@functools.cache
def draws():
    """Draw inputs and biases of variance one, and weights of variance one over the fan-in."""
    input_key, kernel_key, bias_key = jax.random.split(jax.random.key(0, impl="rbg"), 3)
    shape = (NUM_KEYS, DEPTH - 1, WIDTH)
    return (
        jax.random.normal(input_key, (NUM_KEYS, WIDTH)),
        jax.random.normal(kernel_key, (*shape, WIDTH)) / WIDTH**0.5,
        jax.random.normal(bias_key, shape),
    )


def variances(activation, weight_variance, bias_variance):
    """Measure the variance of the pre-activations of each layer: shape (keys, layers)."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, 0))
    def run(z, kernels, biases):
        def layer(z, drawn):
            kernel, bias = drawn
            z = weight_variance**0.5 * activation(z) @ kernel + bias_variance**0.5 * bias
            return z, jnp.mean(z**2)

        return jnp.append(jnp.mean(z**2), jax.lax.scan(layer, z, (kernels, biases))[1])

    return np.asarray(run(*draws()))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_fifty_layers_follow_the_variance_map(name):
    activation = ACTIVATIONS[name]
    # The gain alone would hold the variance at one; with biases one is a fixed point that GELU,
    # SiLU and Mish come back to as well, whose maps are steeper than one there without.
    weight_variance = (1 - BIAS_VARIANCE) * gain(activation) ** 2
    measured = variances(activation, weight_variance, BIAS_VARIANCE)
    predicted = jax.jit(lambda q: variance_map(activation, q, weight_variance, BIAS_VARIANCE))
    ratio = measured[:, 1:] / predicted(measured[:, :-1])
    assert abs(np.mean(ratio[:10]) - 1) < 0.02
    last = measured[:, -1]
    assert abs(last.mean() - 1) < 3 * last.std(ddof=1) / NUM_KEYS**0.5


def correlations(activation, weight_variance, bias_variance, start, num_layers):
    """Measure 1 - c behind each layer, the mean over 20 networks and all pairs of 64 inputs."""
    width, num_inputs = 512, 64
    field = mean_field(activation, weight_variance, bias_variance)

    @jax.jit
    def run(key):
        common_key, input_key, layer_key = jax.random.split(key, 3)
        common = jax.random.normal(common_key, (width,))
        own = jax.random.normal(input_key, (num_inputs, width))
        z = field.q_star**0.5 * (start**0.5 * common + (1 - start) ** 0.5 * own)

        def layer(z, key):
            kernel_key, bias_key = jax.random.split(key)
            kernel = weight_variance**0.5 * equal_variance()(kernel_key, (width, width))
            bias = bias_variance**0.5 * jax.random.normal(bias_key, (width,))
            z = activation(z) @ kernel + bias
            unit = z / jnp.linalg.norm(z, axis=1, keepdims=True)
            # The mean of (u_i - u_j)^2 / 2 over pairs: 1 - c, without a difference near c = 1.
            return z, jnp.sum((unit - unit.mean(axis=0)) ** 2) / (num_inputs - 1)

        return jax.lax.scan(layer, z, jax.random.split(layer_key, num_layers))[1]

    keys = jax.random.split(jax.random.key(1, impl="rbg"), 20)
    return field, np.mean([run(key) for key in keys], axis=0, dtype=float)


@pytest.mark.parametrize(
    ("activation", "weight_variance", "bias_variance", "start", "num_layers"),
    [
        (jnp.tanh, 1.3, 0.2, 0.98, 12),
        (jax.nn.relu, 1.5, 0.2, 0.999, 12),
        (jax.nn.gelu, 1.5, 0.3, 0.98, 12),
        (jnp.sin, 4.0, 0.0, 0.2, 5),
    ],
    ids=["tanh, order", "relu, order", "gelu, order", "sin, chaos"],
)
def test_correlations_decay_with_the_depth_scale(
    activation, weight_variance, bias_variance, start, num_layers
):
    field, distance = correlations(activation, weight_variance, bias_variance, start, num_layers)
    gap = np.abs(distance - (1 - float(field.c_star)))
    # The rate is reached up to a share of the distance itself, which is small behind some layers.
    late = np.arange(num_layers) >= num_layers // 4
    rate = np.polyfit(np.flatnonzero(late), np.log(gap[late]), 1)[0]
    np.testing.assert_allclose(-1 / rate, field.depth_scale, rtol=0.05)
