"""Residuals and losses that can be differentiated in one mode alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import ClosedForm, Implicit, Minimize, Unroll, argmin
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers import bfgs, gauss_newton, levenberg_marquardt, minimize

TIMES = jnp.arange(4.0)
TRUTH = np.array([2.0, -0.5])


def model(w):
    return w[0] * jnp.exp(w[1] * TIMES)


@jax.custom_vjp
def backwards_only(w):
    return model(w)


backwards_only.defvjp(lambda w: jax.vjp(model, w), lambda pull, bar: pull(bar))


def forwards_only(w):
    # the exponential's series 1 + x (1 + x / 2 (1 + ...)) from the inside, by a loop that JAX
    # does not know the length of
    def horner(carry):
        k, total = carry
        return k - 1, 1 + w[1] * TIMES / k * total

    first = jnp.full((), 20, TIMES.dtype), jnp.ones_like(w[1] * TIMES)
    return w[0] * jax.lax.while_loop(lambda carry: carry[0] > 0, horner, first)[1]


MODELS = {"backwards": backwards_only, "forwards": forwards_only}


@pytest.mark.parametrize("model_fn", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("make", [levenberg_marquardt, gauss_newton])
@pytest.mark.parametrize("extra", [0, 4], ids=["tall", "wide"])
def test_least_squares_take_the_mode_that_is_there(make, model_fn, extra):
    target = jnp.asarray(np.asarray(model(TRUTH)))

    def residuals(w):  # as many as parameters, or fewer: each mode is preferred once
        return model_fn(w["curve"]) - target, w["rest"] if extra == 0 else jnp.sum(w["rest"])[None]

    loss = lambda w: 0.5 * sum(jnp.sum(r**2) for r in residuals(w))
    start = {"curve": jnp.array([1.5, -0.4]), "rest": jnp.ones(extra)}
    solution = minimize(loss, start, make(), residual_fn=residuals)
    assert solution.converged
    np.testing.assert_allclose(solution.params["curve"], TRUTH, rtol=1e-3)


def test_a_loss_that_only_goes_forwards_is_minimised_by_any_solver():
    target = jnp.asarray(np.asarray(model(TRUTH)))
    solution = minimize(
        lambda w: jnp.sum((forwards_only(w) - target) ** 2), jnp.array([1.5, -0.4]), bfgs()
    )
    assert solution.converged
    np.testing.assert_allclose(solution.params, TRUTH, rtol=1e-3)


def test_the_gradient_forwards_is_that_backwards_for_complex_trees_too():
    w = {"a": jnp.array([1.0 + 2.0j]), "b": jnp.float32(3.0)}
    plain = lambda w: jnp.sum((w["a"].real - w["b"]) ** 2 + w["a"].imag ** 3) * w["b"]

    def forwards(w):
        return jax.lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, plain(w)), (0, w["b"]))[
            1
        ]

    value, grad = value_and_ascent(forwards)(w)
    expected_value, expected = value_and_ascent(plain)(w)
    np.testing.assert_allclose(value, expected_value)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), grad, expected)


def test_what_fails_in_both_modes_says_what_it_said():
    def loss(_):
        raise KeyError("a mistake of the user's")

    with pytest.raises(KeyError, match="a mistake of the user's"):
        value_and_ascent(loss)(jnp.ones(2))


def fit(y, z):
    return jnp.stack([y[0] - z, 10 * (y[1] - y[0] ** 2)])


def half_squares(y, z):
    return 0.5 * jnp.sum(fit(y, z) ** 2)


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        (levenberg_marquardt(), {"residual_fn": fit}),
        (gauss_newton(), {"residual_fn": fit}),
        (Minimize(levenberg_marquardt()), {"residual_fn": fit}),
        (Minimize(gauss_newton(), residual_fn=fit), {}),
    ],
    ids=["lm", "gauss_newton", "minimize", "minimize_own"],
)
def test_argmin_hands_residuals_on(solver, options):
    def run(z):
        return argmin(
            half_squares, jnp.zeros(2), z, solver=solver, steps=30, diff=Implicit(), **options
        ).y

    np.testing.assert_allclose(run(1.5), [1.5, 2.25], rtol=1e-4)
    np.testing.assert_allclose(jax.jacrev(run)(1.5), [1.0, 3.0], rtol=1e-3)  # of (z, z^2)


def test_residuals_of_all_batches_are_taken_together():
    batches = jnp.array([1.0, 2.0, 6.0])
    residual = lambda y, z, batch: y - z * batch
    solver = Minimize(levenberg_marquardt(), residual_fn=residual)
    result = argmin(
        lambda y, z, batch: residual(y, z, batch) ** 2,
        0.0,
        2.0,
        solver=solver,
        steps=3,
        diff=Implicit(),
        batches=batches,
    )
    np.testing.assert_allclose(result.y, 6.0, rtol=1e-4)


def test_residuals_that_no_one_takes_are_refused():
    with pytest.raises(ValueError, match="argmin needs an optax transformation or Minimize"):
        argmin(
            half_squares,
            jnp.zeros(2),
            1.0,
            solver=ClosedForm(lambda z: jnp.stack([z, z**2])),
            steps=1,
            diff=Unroll(),
            residual_fn=fit,
        )
