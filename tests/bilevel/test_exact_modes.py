"""All modes that differentiate the steps themselves agree, whatever the optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import Forward, Truncate, Unroll, argmin, hypergrad
from jaxopt_tut.optimizers import adam, momentum, sgd

pytestmark = pytest.mark.slow

OPTIMIZERS = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": lambda rate: momentum(rate, nesterov=True),
    "adam": adam,
    "adamw": lambda rate: optax.adamw(rate, weight_decay=0.01),
    "rmsprop": lambda rate: optax.rmsprop(rate, eps=1e-3),
    "schedule_free": lambda rate: optax.contrib.schedule_free_sgd(rate),
    "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(0.5), momentum(rate)),
    "scheduled": lambda rate: sgd(lambda count: rate / (1 + jnp.asarray(count, rate.dtype))),
}
START = {"w": [0.3, -0.7], "b": 0.2}
NUM_STEPS = 7


def f(y, z):
    misfit = y["w"] * jnp.array([1.0, -2.0], y["b"].dtype) + y["b"] - z
    return jnp.mean(jnp.sqrt(1 + misfit**2)) + 0.1 * y["b"] ** 2


def outer(y, z):
    return jnp.sum(y["w"] ** 2) + y["b"] * z


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("x64")
def test_they_agree_pairwise(name):
    start = jax.tree.map(jnp.asarray, START, is_leaf=lambda x: isinstance(x, list))

    @jax.jit
    def all_modes(z, rate):
        return [
            hypergrad(
                outer,
                f,
                start,
                z,
                solver=OPTIMIZERS[name],
                steps=NUM_STEPS,
                diff=mode,
                hp=rate,
                wrt=wrt,
            )[1]
            for mode, wrt in [
                (Unroll(), ("z", "hp", "y0")),
                (Unroll(2), ("z", "hp", "y0")),
                (Forward(), ("z", "hp", "y0")),
                (Truncate(NUM_STEPS), ("z", "hp")),
            ]
        ]

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its own arithmetic
        reference, *others = all_modes(jnp.float64(0.4), jnp.float64(0.2))
    assert all(jnp.all(leaf != 0) for leaf in jax.tree.leaves(reference))
    for other in others:
        for key, grads in other.items():
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), grads, reference[key]
            )


@pytest.mark.usefixtures("x64")
def test_truncation_errs_by_the_power_of_the_contraction():
    curvature, rate, num_steps = 0.8, 0.5, 300
    g = lambda y, z: 0.5 * curvature * (y - z) ** 2

    def gradient(mode):
        return hypergrad(lambda y, _: y, g, 0.0, 2.0, solver=sgd(rate), steps=num_steps, diff=mode)[
            1
        ]["z"]

    rho = 1 - rate * curvature
    for k in (1, 3, 8):
        np.testing.assert_allclose(1 - gradient(Truncate(k)), rho**k, rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_truncation_is_not_lost_where_the_tolerance_stops_early():
    g = lambda y, z: 0.5 * (y - z) ** 2
    _, grads, info = hypergrad(
        lambda y, _: y, g, 0.0, 2.0, solver=sgd(0.5), steps=500, diff=Truncate(3), tol=1e-8
    )
    assert info.steps < 50
    np.testing.assert_allclose(grads["z"], 1 - 0.5**3, rtol=1e-7)


@pytest.mark.parametrize("mode", [Unroll(), Unroll(3), Forward()], ids=str)
@pytest.mark.usefixtures("x64")
def test_a_tolerance_stops_the_steps_and_the_derivative_is_of_those_taken(mode):
    g = lambda y, z: 0.5 * (y - z) ** 2
    _, grads, info = hypergrad(
        lambda y, _: y, g, 0.0, 2.0, solver=sgd(0.5), steps=100, diff=mode, tol=1e-3
    )
    # the residual 2 * 0.5^t is at most 1e-3 from t = 11 on; that step is taken too
    assert info.steps == 12
    np.testing.assert_allclose(grads["z"], 1 - 0.5**12, rtol=1e-14)
    assert info.converged


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam"])
def test_zero_gradients_inside_leave_the_hypergradient_finite(name):
    # the second coordinate never has a gradient
    g = lambda y, z: 0.5 * (y[0] - z) ** 2
    run = lambda z: argmin(
        g, jnp.array([0.0, 1.0]), z, solver=OPTIMIZERS[name](0.1), steps=5
    ).y.sum()
    first, second = jax.jit(lambda z: (jax.grad(run)(z), jax.grad(jax.grad(run))(z)))(1.0)
    assert jnp.isfinite(first)
    assert jnp.isfinite(second)
    assert first != 0


@pytest.mark.usefixtures("x64")
def test_exact_maml_on_quadratics_differs_from_the_first_order_one():
    # task i: 0.5 c_i (y - m_i)^2, one step of size a from the shared start; the best start is the
    # mean of the m_i weighted by c_i (1 - a c_i)^2, with one factor less at first order
    curvatures, minima, rate = jnp.array([0.5, 1.0, 3.0]), jnp.array([-1.0, 0.5, 2.0]), 0.2
    shrink = 1 - rate * curvatures
    best = lambda weights: jnp.sum(weights * minima) / jnp.sum(weights)

    def meta_gradient(start, mode_power):
        g = lambda y, z: 0.5 * z[0] * (y - z[1]) ** 2

        def one(c, m):
            adapted = lambda y0: argmin(g, y0, (c, m), solver=sgd(rate), steps=1, diff=Unroll()).y
            loss = lambda y: g(y, (c, m))
            if mode_power == 2:
                return jax.grad(lambda y0: loss(adapted(y0)))(start)
            return jax.grad(loss)(adapted(start))

        return jnp.sum(jax.vmap(one)(curvatures, minima))

    for power in (1, 2):
        optimum = best(curvatures * shrink**power)
        assert abs(meta_gradient(optimum, power)) < 1e-12
        assert abs(meta_gradient(optimum, 3 - power)) > 1e-2


def test_outer_steps_do_not_compile_again():
    traces = []

    @jax.jit
    def step(z, y0):
        traces.append(None)
        _, grads, _ = hypergrad(
            lambda y, _: jnp.sum(y**2),
            lambda y, z: jnp.sum((y - z) ** 2),
            y0,
            z,
            solver=sgd(0.1),
            steps=3,
            diff=Unroll("sqrt"),
        )
        return z - 0.1 * grads["z"]

    z = jnp.ones(2)
    for _ in range(3):
        z = step(z, jnp.zeros(2))
    assert len(traces) == 1
