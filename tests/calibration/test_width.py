"""Axes that grow, factors of the maximal update parametrisation, and the check of coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.calibration import coordinate_check, mup_multipliers, width_axes
from jaxopt_tut.models import mlp

X = jax.random.normal(jax.random.key(5), (16, 4))


def make_params(width):
    return mlp.init(jax.random.key(0), (4, width, width, 2))


def test_axes_that_grow_are_found():
    axes = width_axes(make_params, (8, 16))
    assert [axes[f"{k}/kernel"] for k in range(3)] == [(1,), (0, 1), (0,)]
    assert [axes[f"{k}/bias"] for k in range(3)] == [(0,), (0,), ()]


@pytest.mark.parametrize(
    ("optimizer", "kernels", "biases"),
    [
        ("adam", [1.0, 0.25, 0.25], [1.0, 1.0, 1.0]),
        ("sgd", [4.0, 1.0, 0.25], [4.0, 4.0, 1.0]),
        ("momentum", [4.0, 1.0, 0.25], [4.0, 4.0, 1.0]),
    ],
)
def test_factors_are_those_of_table_3(optimizer, kernels, biases):
    factors = mup_multipliers(make_params, 16, 64, optimizer=optimizer)
    assert [layer["kernel"] for layer in factors.learning_rate] == kernels
    assert [layer["bias"] for layer in factors.learning_rate] == biases
    assert [layer["kernel"] for layer in factors.init] == [1.0, 1.0, 0.5]


def loss_fn(params, x):
    return jnp.mean((mlp.apply(params, x, jnp.tanh) - 1) ** 2)


def standard(width, key):
    return loss_fn, mlp.init(key, (4, width, width, 2)), optax.sign_sgd(1e-3)


def maximal(width, key):
    factors = mup_multipliers(make_params, 32, width)
    params = jax.tree.map(jnp.multiply, mlp.init(key, (4, width, width, 2)), factors.init)
    scale = optax.stateless(lambda u, _: jax.tree.map(jnp.multiply, u, factors.learning_rate))
    return loss_fn, params, optax.chain(optax.sign_sgd(1e-3), scale)


@pytest.mark.slow
def test_only_the_maximal_update_parametrisation_passes():
    widths = (33, 96, 288)
    fixed = coordinate_check(maximal, widths, X, key=jax.random.key(0))
    grows = coordinate_check(standard, widths, X, key=jax.random.key(0))
    assert fixed.ok
    assert not grows.ok
    assert grows.slopes[1] > 0.5
    assert fixed.names == ("0/kernel", "1/kernel", "2/kernel")
    assert fixed.changes.shape == (3, 3)


@pytest.mark.slow
def test_changes_are_those_of_training():
    found = coordinate_check(standard, (8, 16), X, key=jax.random.key(0), steps=1, num_seeds=1)
    (own,) = jax.random.split(jax.random.key(0), 1)
    params = standard(8, own)[1]
    moved = jax.tree.map(lambda w, g: w - 1e-3 * jnp.sign(g), params, jax.grad(loss_fn)(params, X))
    before, after = (
        mlp.apply(one, X, jnp.tanh, return_pre_activations=True)[1] for one in (params, moved)
    )
    for k in range(3):
        # A difference of values near 1 that agree to 1e-3 keeps four digits.
        expected = jnp.sqrt(jnp.mean((after[k] - before[k]) ** 2))
        np.testing.assert_allclose(found.changes[0, k], expected, rtol=2e-3)


def test_bad_widths_are_refused():
    with pytest.raises(ValueError, match="width_axes needs two different widths, got 8 twice"):
        width_axes(make_params, (8, 8))
    with pytest.raises(ValueError, match=r"at least two increasing widths, got widths=\(8,\)"):
        coordinate_check(standard, (8,), X, key=jax.random.key(0))
    with pytest.raises(ValueError, match="steps >= 1 and num_seeds >= 1, got steps=0"):
        coordinate_check(standard, (8, 16), X, key=jax.random.key(0), steps=0)
    with pytest.raises(ValueError, match="needs optimizer 'sgd', 'momentum' or 'adam', got"):
        mup_multipliers(make_params, 8, 16, optimizer="lion")
    with pytest.raises(ValueError, match="width_axes needs trees with the same leaves"):
        width_axes(lambda n: mlp.init(jax.random.key(0), (4,) * (n // 4)), (8, 16))
