"""Exact quantiles and effective ranks against NumPy, and where both are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.diagnostics import effective_rank, exact_statistics

KEYS = jax.random.split(jax.random.key(0), 3)
X = jax.random.normal(KEYS[0], (12, 6))
STACK = jax.random.normal(KEYS[1], (3, 6, 6)) / 2


def loss_fn(stack, x):
    hidden, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, stack)
    return jnp.mean(hidden[:, 0] ** 2)


@pytest.mark.usefixtures("full_products")
def test_quantiles_and_ranks_of_scanned_layers_are_numpys():
    found = jax.jit(lambda p, x: exact_statistics(loss_fn, p, x, quantiles=(0.1, 0.5)))(STACK, X)
    (layer,) = found.values()
    hidden = np.asarray(X, np.float64)
    for k, weight in enumerate(np.asarray(STACK, np.float64)):
        z = hidden @ weight
        hidden = np.tanh(z)
        for ours, values in (
            (layer.weights, weight),
            (layer.pre_activations, z),
            (layer.activations, hidden),
        ):
            # Sums of six products, three layers deep.
            np.testing.assert_allclose(ours[k], np.quantile(values, (0.1, 0.5)), atol=1e-5)
        eigenvalues = np.linalg.eigvalsh(z @ z.T)
        rank = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
        np.testing.assert_allclose(layer.effective_rank[k], rank, rtol=1e-4)
    assert layer.cotangents.shape == layer.weight_gradients.shape == (3, 2)


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25], ids=["one", "tiny", "huge"])
@pytest.mark.parametrize("shape", [(5, 40), (40, 5)], ids=["wide", "tall"])
def test_orthogonal_examples_of_equal_size_have_full_rank(shape, scale):
    values, _ = np.linalg.qr(np.asarray(jax.random.normal(KEYS[2], (40, 5)), np.float64))
    values = jnp.asarray(scale * values.reshape(40, 5), jnp.float32)
    rank = effective_rank(values.T if shape == (5, 40) else values)
    # Forty products an entry in single precision.
    np.testing.assert_allclose(rank, 5, rtol=40 * 1.2e-7)


@pytest.mark.slow
def test_multiples_of_one_example_have_rank_one_and_zeros_none():
    one = jnp.outer(jnp.arange(1.0, 8.0), jnp.arange(-2.0, 2.0))
    np.testing.assert_allclose(effective_rank(one), 1, rtol=1e-6)
    assert effective_rank(jnp.zeros((4, 3))) == 0
    assert jnp.isfinite(jax.grad(effective_rank)(jnp.zeros((4, 3)))).all()


def test_a_quantile_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match=r"exact_statistics needs quantiles .* got 1\.2\."):
        exact_statistics(loss_fn, STACK, X, quantiles=(0.5, 1.2))
