"""Singular values of Jacobians that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.diagnostics import jacobian_singular_values
from jaxopt_tut.initializers import orthogonal
from jaxopt_tut.models import mlp

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (8,))
find = jax.jit(jacobian_singular_values, static_argnums=(0, 2))


def test_a_linear_network_has_those_of_the_product():
    params = mlp.init(jax.random.key(2), (8, 16, 5))
    first, second = (np.asarray(layer["kernel"], np.float64) for layer in params)
    product = first @ second
    values = find(lambda x: mlp.apply(params, x, lambda z: z), X, 5, key=KEY)
    exact = np.linalg.svd(product, compute_uv=False)
    np.testing.assert_allclose(values, exact, atol=1e-5 * exact[0])


def test_a_rectifier_has_those_of_its_active_units_at_any_tree():
    weight = jax.random.normal(jax.random.key(3), (6, 7))
    tree = {"a": jnp.arange(2.0), "b": -jnp.ones((2, 2))}

    def fun(tree):
        return {"out": jax.nn.relu(jnp.concatenate([tree["a"], tree["b"].ravel()]) @ weight)}

    flat = jnp.concatenate([tree["a"], tree["b"].ravel()])
    exact = np.linalg.svd(np.asarray(weight) * np.asarray(flat @ weight > 0), compute_uv=False)
    # Units that are off make the Jacobian singular: the later values are zeros.
    assert exact[-1] < 1e-6
    np.testing.assert_allclose(find(fun, tree, 6, key=KEY), exact, atol=1e-5 * exact[0])


@pytest.mark.slow
def test_equal_values_are_all_seen():
    weight = orthogonal()(jax.random.key(4), (8, 8))
    np.testing.assert_allclose(find(lambda x: 3 * x @ weight, X, 8, key=KEY), 3.0, rtol=1e-5)


def test_a_constant_function_has_zeros():
    np.testing.assert_array_equal(find(lambda x: 0.0 * x, X, 4, key=KEY), 0.0)


@pytest.mark.slow
def test_few_steps_find_the_largest():
    weight = jnp.diag(jnp.array([10.0, *jnp.linspace(0.1, 1.0, 39)]))
    values = find(lambda x: jnp.tanh(weight @ x), jnp.zeros(40), 6, key=KEY)
    # Each step shrinks the error by ((1 - r) / (1 + r))^2 or better, r = sqrt(0.9).
    np.testing.assert_allclose(values[0], 10.0, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_both_precisions_and_batches_are_kept():
    weight = jax.random.normal(jax.random.key(5), (8, 3), "float64")
    exact = np.linalg.svd(np.asarray(weight), compute_uv=False)
    double = find(lambda x: x @ weight, X.astype("float64"), 3, key=KEY)
    np.testing.assert_allclose(double, exact, rtol=1e-12)
    single = weight.astype("float32")
    batch = jax.vmap(lambda x: find(lambda x: x @ single, x, 3, key=KEY))(jnp.stack([X, 2 * X]))
    assert batch.dtype == "float32"
    np.testing.assert_allclose(batch, np.stack([exact, exact]), rtol=1e-5)


@pytest.mark.parametrize("num_steps", [0, 4], ids=["none", "more than outputs"])
def test_too_many_or_no_steps_are_refused(num_steps):
    with pytest.raises(ValueError, match=rf"1 <= num_steps <= 3.* got num_steps={num_steps}\."):
        jacobian_singular_values(lambda x: x[:3], X, num_steps, key=KEY)
