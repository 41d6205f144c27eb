"""Changes are those of the values, to the digits of the change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.autodiff.differencing import Differenced

X = np.array([0.7, -1.2, 2.0, 0.4])
FUNCTIONS = {
    "arithmetic": lambda x: (x * x - x / (2 + x)) + x**2 - x**3,
    "exp, log, sin, cos, tanh": lambda x: (
        jnp.exp(x) + jnp.log(x + 3) + jnp.sin(x) * jnp.cos(x) + jnp.tanh(x)
    ),
    "choices": lambda x: jnp.where(x > 0.5, x * x, -x) + jnp.maximum(x, 0.3) - jnp.minimum(x, x[0]),
    "products": lambda x: jnp.outer(x, x) @ x + jnp.convolve(x, x[:2], mode="same"),
    "places": lambda x: jnp.concatenate([x[::-1], x[jnp.array([2, 0])].cumsum()]).at[1].add(x[3]),
    "calls": lambda x: jax.jit(jax.nn.relu)(x) + jax.nn.gelu(x) + jnp.sort(x) + jnp.sqrt(x + 2),
    "loops": lambda x: jax.lax.scan(lambda c, v: (c * v + 1, c), 1.0, x),
    "branches": lambda x: jax.lax.cond(x[0] > 0.5, jnp.sin, jnp.cos, x),
    "integers": lambda x: (x + (x > 0.5).astype(x.dtype), jnp.argmax(x)),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_changes_match_the_values_far_away_and_the_derivative_near_by(name):
    fun = FUNCTIONS[name]
    program = Differenced(jax.make_jaxpr(fun)(X))
    changes = jax.jit(lambda x, d: program.changes([x], [d]))
    direction = np.array([-0.5, 1.0, 0.3, 0.7])
    flat = lambda tree: np.concatenate(
        [np.ravel(y) for y in jax.tree.leaves(tree) if jnp.issubdtype(y.dtype, jnp.floating)]
    )
    for step in (1.0, 0.01):  # the first crosses the borders of the choices
        expected = flat(fun(X + step * direction)) - flat(fun(X))
        values, found = changes(X, step * direction)
        np.testing.assert_allclose(flat(values), flat(fun(X)), rtol=1e-14)
        np.testing.assert_allclose(flat(found), expected, atol=1e-13)
    tangent = [t for t in jax.tree.leaves(jax.jvp(fun, (X,), (direction,))[1]) if t.dtype == float]
    found = flat(changes(X, 1e-9 * direction)[1]) / 1e-9
    # the second derivatives are below 100, and the functions without a formula round at 1e-16
    np.testing.assert_allclose(found, flat(tangent), atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("step", [1e-3, 1e-12, 1e-30])
def test_a_change_far_below_the_value_keeps_its_digits(step):
    fun = lambda x: jnp.sin(jnp.sum(x)) + jnp.sum(x**2) * 1e6 + jnp.exp(x[0] / 7)
    found = Differenced(jax.make_jaxpr(fun)(X)).changes([X], [np.array([step, 0, 0, 0])])[1][0]
    slope = np.cos(X.sum()) + 2e6 * X[0] + np.exp(X[0] / 7) / 7
    curvature = -np.sin(X.sum()) / 2 + 1e6 + np.exp(X[0] / 7) / 98
    np.testing.assert_allclose(found, slope * step + curvature * step**2, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_an_infinite_value_does_not_move_and_leaves_the_others_alone():
    fun = lambda x, y: (jnp.array([jnp.inf, 2.0]) * x) / y
    program = Differenced(jax.make_jaxpr(fun)(1.5, 2.0))
    start = [np.float64(1.5), np.float64(2.0)]
    np.testing.assert_allclose(program.changes(start, [np.float64(0.5), None])[1][0], [0, 0.5])
    np.testing.assert_allclose(program.changes(start, [None, np.float64(0.5)])[1][0], [0, -0.3])
