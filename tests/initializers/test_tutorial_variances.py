"""The variances of the first tutorial's network, layer by layer, against its printed tables."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.datasets import load_fashion_mnist_mini, normalize
from jaxopt_tut.initializers import (
    constant,
    equal_variance,
    kaiming_normal,
    normal,
    xavier_uniform,
)
from jaxopt_tut.models import mlp

pytestmark = pytest.mark.slow

NUM_SEEDS, NUM_SEEDS_OF_TABLE, BATCH_SIZE = 12, 5, 1024


def identity(x):
    return x


def kaiming(key):
    return mlp.init(key, kernel_init=kaiming_normal(), first_kernel_init=equal_variance())


def drawn(kernel_init):
    return lambda key: mlp.init(key, kernel_init=kernel_init)


# Means over five draws of weights and of 1024 images of the full set, to two or three digits.
TABLES = {
    "std .01": (drawn(normal(0.01)), identity, [0.079, 0.0041, 1.1e-4, 2.7e-6, 3.5e-8]),
    "std .1": (drawn(normal(0.1)), identity, [7.9, 41, 107, 272, 353]),
    "equal variance": (drawn(equal_variance()), identity, [1.01, 1.02, 1.04, 1.04, 1.05]),
    "xavier": (drawn(xavier_uniform()), identity, [1.22, 1.66, 1.68, 2.18, 4.26]),
    "xavier, tanh": (drawn(xavier_uniform()), jnp.tanh, [1.22, 0.56, 0.29, 0.25, 0.34]),
    "kaiming, relu": (kaiming, jax.nn.relu, [1.00, 0.99, 1.04, 1.02, 0.96]),
    "xavier, relu": (drawn(xavier_uniform()), jax.nn.relu, [1.22, 0.83, 0.44, 0.28, 0.21]),
    "equal, relu": (drawn(equal_variance()), jax.nn.relu, [1.0, 0.51, 0.27, 0.13, 0.055]),
}


def batches():
    dataset = load_fashion_mnist_mini()
    rng = np.random.default_rng(0)
    for _ in range(NUM_SEEDS):
        rows = rng.choice(len(dataset.train.images), BATCH_SIZE, replace=False)
        yield normalize(dataset.train.images[rows], dataset.mean, dataset.std)


@partial(jax.jit, static_argnames="activation")
def measure(params, images, activation):
    outputs = mlp.apply(params, images, activation, return_pre_activations=True)[1]
    return jnp.array([jnp.var(values) for values in outputs])


def variances(make, activation):
    """Measure the variance of the pre-activations: shape (seeds, layers)."""
    keys = jax.random.split(jax.random.key(0), NUM_SEEDS)
    return np.array([measure(make(k), x, activation) for k, x in zip(keys, batches(), strict=True)])


@pytest.mark.parametrize("name", TABLES)
def test_variances_are_those_of_the_table(name):
    make, activation, table = TABLES[name]
    found = variances(make, activation)
    error = found.std(axis=0, ddof=1) * np.sqrt(1 / NUM_SEEDS + 1 / NUM_SEEDS_OF_TABLE)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - table), 3 * error)


def test_variances_of_a_constant_are_those_of_the_table():
    found = variances(drawn(constant(0.005)), identity)
    # Nothing is drawn but images: one batch of the full set on one side, twelve that overlap on the
    # other, which the 6000 bundled images bound.
    num_images = len(load_fashion_mnist_mini().train.images)
    error = found.std(axis=0, ddof=1) * np.sqrt(1 + 1 / NUM_SEEDS + BATCH_SIZE / num_images)
    table = [2.04, 13.3, 21.9, 35.8, 14.7]
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - table), 3 * error)
