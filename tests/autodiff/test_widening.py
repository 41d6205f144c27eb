"""A widened program is the same program with more digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.autodiff.widening import Widened, widened

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (4, 4))
Y = jnp.array([0.3, -1.0, 2.0, 0.5])


def loop(x, y):
    doubled = jax.lax.while_loop(lambda c: jnp.sum(c) < 100, lambda c: c + jnp.exp(y), y)
    return jax.lax.scan(lambda c, row: (jnp.tanh(c + row), c), doubled, x)


def branches(x, y):
    first = jax.lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, y)
    return jax.lax.switch(2, [jnp.sin, jnp.cos, jnp.exp], first)


def solves(x, y):
    matrix = x @ x.T + jnp.eye(4)
    return jnp.linalg.solve(matrix, y), jax.scipy.sparse.linalg.cg(lambda v: matrix @ v, y)[0]


def indexing(x, y):
    pooled = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (1, 1), "VALID")
    folded = jax.lax.reduce(x, jnp.float32(0), lambda a, b: a + b + a * b, (0,))
    return x.at[1].add(y).at[0].mul(y), pooled, folded, jax.lax.top_k(x, 2), jnp.argsort(y)


def noise(x, y):
    kept = jax.random.bernoulli(KEY, 0.5, x.shape)
    return jnp.where(kept, x, 0) * jax.random.normal(KEY, x.shape) + y


def calls(x, y):
    return jax.checkpoint(jnp.sin)(jax.nn.relu(x)), jax.jit(jnp.cos)(y), jnp.abs(jnp.fft.fft(x))


@pytest.mark.parametrize("fun", [loop, branches, solves, indexing, noise, calls])
def test_values_agree_to_single_precision_and_hold_double(fun):
    program = Widened(jax.make_jaxpr(fun)(X, Y))
    with jax.enable_x64(True):
        found = jax.jit(program.__call__)(widened(np.asarray(X)), widened(np.asarray(Y)))
    for own, wide in zip(jax.tree.leaves(fun(X, Y)), found, strict=True):
        assert wide.dtype == (np.float64 if jnp.issubdtype(own.dtype, jnp.floating) else own.dtype)
        # twenty roundings at most in a row, and sums of sixteen terms
        np.testing.assert_allclose(own, wide, rtol=1e-4, atol=1e-5)
    assert program.epsilon == np.finfo(np.float64).eps


def test_half_precision_has_the_digits_of_double():
    x = jnp.bfloat16(0.7)
    fun = lambda x: jnp.tanh(x.astype(jnp.float32) * 3).astype(jnp.bfloat16) + jnp.exp(x)
    program = Widened(jax.make_jaxpr(fun)(x))
    with jax.enable_x64(True):
        (found,) = program(widened(np.asarray(x)))
    exact = np.tanh(3 * np.float64(x)) + np.exp(np.float64(x))
    np.testing.assert_allclose(found, exact, rtol=1e-15)


def test_literals_stay_the_numbers_they_were():
    program = Widened(jax.make_jaxpr(lambda x: x * 0.1)(jnp.float32(1)))
    with jax.enable_x64(True):
        assert program(np.float64(1))[0] == np.float64(np.float32(0.1))


def test_what_cannot_be_widened_is_run_as_it_is_and_says_so():
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    fun = lambda x: 2 * jax.pure_callback(lambda v: np.sin(np.asarray(v)), shape, x)
    program = Widened(jax.make_jaxpr(fun)(jnp.float32(1)))
    with jax.enable_x64(True):
        (found,) = jax.jit(program.__call__)(np.float64(1))
    assert float(found) == float(2 * np.sin(np.float32(1)))
    assert program.epsilon == np.finfo(np.float32).eps
