"""The tutorial's network, pure and as an nnx module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_tut import models
from jaxopt_tut.initializers import constant, normal
from jaxopt_tut.models import mlp


def test_the_tutorials_network_has_its_number_of_parameters():
    shapes = jax.eval_shape(mlp.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 633_226


def test_apply_is_the_composition_of_its_layers():
    params = mlp.init(jax.random.key(1), (5, 4, 3), bias_init=normal(1.0))
    x = jax.random.normal(jax.random.key(2), (7, 5))
    (first, second) = params
    z1 = np.asarray(x) @ np.asarray(first["kernel"]) + np.asarray(first["bias"])
    z2 = np.tanh(z1) @ np.asarray(second["kernel"]) + np.asarray(second["bias"])
    logits, pre_activations = mlp.apply(params, x, jnp.tanh, return_pre_activations=True)
    # A handful of float32 products of order one.
    np.testing.assert_allclose(pre_activations[0], z1, atol=1e-5)
    np.testing.assert_allclose(pre_activations[1], z2, atol=1e-5)
    np.testing.assert_array_equal(logits, pre_activations[-1])
    np.testing.assert_array_equal(logits, mlp.apply(params, x, jnp.tanh))


def test_the_nnx_module_computes_the_same():
    model = models.MLP((6, 5, 4, 3), activation=jnp.tanh, rngs=nnx.Rngs(0))
    params = tuple({"kernel": layer.kernel[...], "bias": layer.bias[...]} for layer in model.layers)
    x = jax.random.normal(jax.random.key(0), (2, 3, 2))
    expected = mlp.apply(params, x, jnp.tanh, return_pre_activations=True)
    jax.tree.map(np.testing.assert_array_equal, model(x, return_pre_activations=True), expected)


def test_images_are_flattened_and_leading_axes_kept():
    params = mlp.init(jax.random.key(0), (6, 3))
    images = jax.random.normal(jax.random.key(1), (4, 2, 3))
    np.testing.assert_array_equal(
        mlp.apply(params, images), mlp.apply(params, images.reshape(4, 6))
    )
    assert mlp.apply(params, images[0]).shape == (3,)


@pytest.mark.slow
def test_default_kernels_have_the_tutorials_variances():
    params = mlp.init(jax.random.key(0), (400, 300, 200, 10))
    for layer, expected in zip(params, [1 / 400, 2 / 300, 2 / 200], strict=True):
        kernel = layer["kernel"]
        # The variance of n normal draws has the relative standard error sqrt(2 / n).
        np.testing.assert_allclose(np.var(kernel), expected, rtol=4 * np.sqrt(2 / kernel.size))
        assert not layer["bias"].any()


def test_every_layer_has_its_own_key():
    params = mlp.init(jax.random.key(0), (4, 4, 4, 4), kernel_init=normal(1.0))
    kernels = [layer["kernel"] for layer in params]
    assert not np.isclose(kernels[0], kernels[1]).any()
    assert not np.isclose(kernels[1], kernels[2]).any()


def test_a_given_kernel_init_draws_every_layer():
    params = mlp.init(jax.random.key(0), (3, 3, 3), kernel_init=constant(0.5))
    assert all((layer["kernel"] == 0.5).all() for layer in params)


def test_dtype_is_kept():
    params = mlp.init(jax.random.key(0), (3, 2), dtype=jnp.bfloat16)
    assert mlp.apply(params, jnp.ones((1, 3), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlp.init(jax.random.key(0), (3,)), r"at least two positive sizes, got .*\(3,\)"),
        (lambda: mlp.init(jax.random.key(0), (3, 0)), r"positive sizes, got sizes=\(3, 0\)\."),
        (
            lambda: mlp.apply(mlp.init(jax.random.key(0), (6, 2)), jnp.ones((4, 5))),
            r"mlp.apply needs inputs of 6 features .*, got shape \(4, 5\)\.",
        ),
        (
            lambda: mlp.apply(mlp.init(jax.random.key(0), (6, 2)), jnp.ones(())),
            r"mlp.apply needs inputs of 6 features .*, got shape \(\)\.",
        ),
    ],
    ids=["one_size", "zero_size", "wrong_features", "scalar"],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
