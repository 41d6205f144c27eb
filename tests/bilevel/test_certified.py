import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Implicit, Unroll, hypergrad
from jaxopt_tut.optimizers import sgd
from tests.bilevel.problems import make_ridge


def logistic(ridge):
    signs, validation_signs = jnp.sign(ridge.targets), jnp.sign(ridge.validation_targets)

    def f(y, z):
        loss = jnp.mean(jnp.logaddexp(0.0, -signs * (ridge.train @ y)))
        return loss + 0.5 * jnp.sum(jnp.exp(z) * y**2)

    def outer(y, _):
        return jnp.mean(jnp.logaddexp(0.0, -validation_signs * (ridge.validation @ y)))

    return f, outer


@pytest.mark.parametrize("problem", ["ridge", "logistic"])
@pytest.mark.usefixtures("x64")
def test_the_estimate_is_close_to_the_true_error(problem):
    ridge = make_ridge()
    z, rate, f, outer = jnp.float64(-1.0), 0.25, ridge.f, ridge.outer
    if problem == "logistic":
        z = jnp.linspace(-2.0, 0.0, 5)
        f, outer = logistic(ridge)
        rate = 0.5

    @jax.jit
    def gradient(start):
        _, grads, info = hypergrad(
            outer, f, start, z, solver=sgd(rate), steps=1, diff=Implicit(), certify=True
        )
        return grads["z"], info.error_estimate

    solve = jax.jit(
        lambda start: jax.lax.fori_loop(0, 600, lambda _, y: y - rate * jax.grad(f)(y, z), start)
    )
    optimum = solve(ridge.start)
    truth, at_optimum = gradient(optimum)
    assert at_optimum < 1e-12
    in_range = 0
    for distance in 10.0 ** np.arange(-9.0, 1.0):
        found, estimate = gradient(optimum + distance * ridge.start)
        error = jnp.linalg.norm(found - truth)
        relative = error / jnp.linalg.norm(truth)
        if 1e-9 <= relative <= 1e-1:
            in_range += 1
            assert 0.5 <= estimate / error <= 2
        elif relative > 1e-1:
            assert 0.1 <= estimate / error <= 10
    assert in_range >= 5


def test_without_certify_and_for_exact_modes_there_is_no_estimate():
    ridge = make_ridge("float32")

    def estimate(mode, certify):
        return hypergrad(
            ridge.outer,
            ridge.f,
            ridge.start,
            -1.0,
            solver=sgd(0.2),
            steps=3,
            diff=mode,
            certify=certify,
        )[2].error_estimate

    assert jax.eval_shape(lambda: estimate(Implicit(), False)) is None
    assert jax.eval_shape(lambda: estimate(Unroll(), True)) is None
