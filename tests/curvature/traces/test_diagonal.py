"""Diagonals, entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.curvature import diagonal, linear_map


def operator(matrix, dtype=jnp.float32):
    return linear_map(lambda v, a: a @ v, jnp.zeros(len(matrix), dtype), jnp.asarray(matrix, dtype))


def symmetric(size=40):
    matrix = np.random.default_rng(0).normal(size=(size, size))
    return matrix + matrix.T


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_a_diagonal_operator_is_exact(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        entries = np.linspace(-3, 5, 30)
        found = diagonal(operator(np.diag(entries), dtype), jax.random.key(0), num_products=4)
        assert found.mean.dtype == found.sem.dtype == dtype
        eps = float(jnp.finfo(dtype).eps)
        # each entry is one product and a running mean of equal numbers
        np.testing.assert_allclose(found.mean, entries.astype(dtype), rtol=4 * eps)
        np.testing.assert_allclose(found.sem, 0, atol=20 * eps)


def test_the_error_of_an_entry_is_that_of_the_rest_of_its_row():
    matrix, count = symmetric(), 30
    run = jax.jit(
        jax.vmap(lambda key: diagonal(operator(matrix), key, num_products=count)),
    )
    found = run(jax.random.split(jax.random.key(1), 300))
    error = np.asarray(found.mean) - np.diag(matrix)
    rest = np.sqrt((np.sum(matrix**2, 1) - np.diag(matrix) ** 2) / count)
    # a variance from 300 runs has a relative error of .08, and its root half of that: 5 of them
    np.testing.assert_allclose(error.std(0), rest, rtol=0.2)
    np.testing.assert_allclose(np.sqrt(np.mean(found.sem**2, axis=0)), rest, rtol=0.1)
    assert np.max(abs(error.mean(0)) / (rest / np.sqrt(300))) < 5
    low, high = found.interval(0.95)
    covered = np.mean((low <= np.diag(matrix)) & (np.diag(matrix) <= high))
    assert 0.94 <= covered <= 0.96  # of 12 000 entries, and some for their being together


def test_as_many_products_as_rows_are_the_diagonal_itself():
    matrix = symmetric()
    for num_products in (40, 100):
        found = diagonal(operator(matrix), jax.random.key(0), num_products=num_products)
        np.testing.assert_array_equal(found.mean, np.diag(matrix).astype(np.float32))
        np.testing.assert_array_equal(found.sem, 0)


def test_compiled_and_led_by_python_agree():
    op, key = operator(symmetric()), jax.random.key(0)
    run = lambda op, key: diagonal(op, key, num_products=20)
    plain, compiled = run(op, key), jax.jit(run)(op, key)
    # a running mean of 20 numbers of about 6
    np.testing.assert_allclose(compiled.mean, plain.mean, atol=1e-4)
    np.testing.assert_allclose(compiled.sem, plain.sem, atol=1e-4)


def test_the_derivative_of_a_multiple_is_the_estimate():
    of = lambda c: diagonal(c * operator(symmetric()), jax.random.key(0), num_products=20)
    plain, slope = jax.jvp(of, (1.0,), (1.0,))
    np.testing.assert_allclose(slope.mean, plain.mean, atol=1e-4)
    np.testing.assert_allclose(slope.sem, plain.sem, rtol=1e-3)
    back = jax.grad(lambda c: of(c).mean[3])(1.0)
    np.testing.assert_allclose(back, plain.mean[3], atol=1e-4)


def test_entries_come_in_the_order_of_the_tree():
    like = {"b": jnp.zeros((2, 15)), "a": jnp.zeros(20)}
    op = linear_map(lambda tree: {"a": 2 * tree["a"], "b": 3 * tree["b"]}, like)
    found = op.unravel(diagonal(op, jax.random.key(0), num_products=4).mean)
    np.testing.assert_array_equal(found["a"], 2)
    np.testing.assert_array_equal(found["b"], 3)


@pytest.mark.parametrize("number", [1, 0, -3])
def test_too_few_products_are_refused(number):
    with pytest.raises(
        ValueError, match=rf"diagonal needs num_products >= 2, got num_products={number}\."
    ):
        diagonal(operator(symmetric()), jax.random.key(0), num_products=number)
