"""`descend` is the plain loop, in one program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.landscape import descend, surfaces


def test_matches_the_python_loop():
    surface, optimizer = surfaces.rosenbrock, optax.sgd(1e-3, momentum=0.9)
    path = descend(surface.fun, surface.start, optimizer, 5)
    params, state = jnp.asarray(surface.start), optimizer.init(jnp.asarray(surface.start))
    for point, value in zip(path.points, path.values, strict=True):
        # Five updates: rounding of a few operations each, near values of about 1 to 24.
        np.testing.assert_allclose(point, params, rtol=1e-5)
        np.testing.assert_allclose(value, surface.fun(params), rtol=1e-4)
        updates, state = optimizer.update(jax.grad(surface.fun)(params), state, params)
        params = optax.apply_updates(params, updates)


def test_gradient_descent_on_a_quadratic_has_its_closed_form():
    eigenvalues = np.array([1.0, 10.0], np.float32)
    path = descend(surfaces.quadratic(eigenvalues).fun, np.ones(2, np.float32), optax.sgd(0.15), 20)
    expected = (1 - 0.15 * eigenvalues) ** np.arange(21)[:, None]
    np.testing.assert_allclose(path.points, expected, rtol=20 * 4 * np.finfo(np.float32).eps)


def test_vmap_over_learning_rates_and_starts_equals_the_loop():
    run = lambda lr, start: descend(surfaces.ravine.fun, start, optax.sgd(lr), 10)
    rates, starts = jnp.array([0.1, 1.0]), jnp.array([[5.0, 5.0], [1.0, -1.0], [0.0, 0.0]])
    both = jax.vmap(jax.vmap(run, (None, 0)), (0, None))(rates, starts)
    assert both.points.shape == (2, 3, 11, 2)
    one = run(rates[1], starts[0])
    # Ten steps of size up to 1; each rounds once in tanh and once in the update.
    np.testing.assert_allclose(both.points[1, 0], one.points, atol=1e-5)


def test_the_last_value_is_differentiable_in_the_learning_rate():
    last = lambda lr: descend(lambda w: 0.5 * w**2, jnp.array(1.0), optax.sgd(lr), 3).values[-1]
    # f = (1 - lr)^6 / 2
    np.testing.assert_allclose(jax.grad(last)(0.5), -3 * 0.5**5, rtol=1e-6)


def test_trees_and_zero_steps():
    start = {"a": jnp.ones(2), "b": (jnp.zeros(()), None)}
    path = descend(lambda p: jnp.sum(p["a"]) + p["b"][0], start, optax.sgd(1.0), 0)
    assert path.points["a"].shape == (1, 2)
    assert path.values.tolist() == [2.0]


def test_bad_input():
    with pytest.raises(ValueError, match=r"descend needs num_steps >= 0, got num_steps=-1\."):
        descend(lambda w: w, jnp.array(0.0), optax.sgd(1.0), -1)
