"""Gradient descent: closed form on a quadratic, optax, derivatives, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.optimizers import sgd

CURVATURES = np.array([0.25, 1.0, 3.0])
START = np.array([2.0, -1.0, 0.5])


def descend(optimizer, num_steps, dtype="float64"):
    """Run on the quadratic with `CURVATURES`; return the last parameters."""
    w = jnp.asarray(START, dtype)
    curvatures = jnp.asarray(CURVATURES, dtype)

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(curvatures * w, state, w)
        return (optax.apply_updates(w, updates), state), None

    (w, _), _ = jax.lax.scan(step, (w, optimizer.init(w)), length=num_steps)
    return w


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("learning_rate", [0.1, -0.1, 0.0, 2 / 3.25], ids=str)
def test_matches_the_closed_form_on_a_quadratic(learning_rate):
    closed_form = (1 - learning_rate * CURVATURES) ** 30 * START
    # each of the 30 steps rounds twice, relative to the largest iterate of its coordinate
    np.testing.assert_allclose(descend(sgd(learning_rate), 30), closed_form, rtol=60 * 2.3e-16)


@pytest.mark.usefixtures("x64")
def test_two_over_the_sum_of_the_extreme_curvatures_is_the_best_constant_rate():
    best = 2 / (CURVATURES[0] + CURVATURES[-1])
    error = lambda rate: np.abs(descend(sgd(rate), 100) / START).max()
    # the error shrinks by (kappa - 1) / (kappa + 1) = 11/13 a step there
    np.testing.assert_allclose(error(best), (11 / 13) ** 100, rtol=1e-12)
    assert error(best) < min(error(0.99 * best), error(1.01 * best))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("rate", "diverges"), [(0.66, False), (0.67, True)])
def test_diverges_beyond_two_over_the_largest_curvature(rate, diverges):
    assert (np.abs(descend(sgd(rate), 1000)[2]) > np.abs(START[2])) == diverges


@pytest.mark.usefixtures("x64")
def test_derivative_by_the_learning_rate_matches_the_closed_form():
    rate, t = 0.3, 7
    derivative = jax.jacfwd(lambda rate: descend(sgd(rate), t))(rate)
    factors = 1 - rate * CURVATURES
    closed_form = -t * CURVATURES * factors ** (t - 1) * START
    np.testing.assert_allclose(derivative, closed_form, rtol=1e-14)


def test_a_schedule_is_asked_for_the_number_of_updates_made_before():
    optimizer = sgd(lambda count: jnp.array([1.0, 10.0, 100.0])[count])
    state, updates = optimizer.init(jnp.zeros(())), []
    for _ in range(3):
        update, state = optimizer.update(jnp.array(2.0), state)
        updates.append(float(update))
    assert updates == [-2.0, -20.0, -200.0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_updates_are_those_of_optax_to_the_bit(dtype):
    gradient = jax.random.normal(jax.random.key(0), (50,), dtype)
    theirs, ours = optax.sgd(0.3), sgd(0.3)
    expected, _ = theirs.update(gradient, theirs.init(gradient))
    actual, _ = ours.update(gradient, ours.init(gradient))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("learning_rate", "error", "message"),
    [
        (float("nan"), ValueError, r"^sgd needs a finite learning_rate, got learning_rate=nan\.$"),
        (
            np.float32("inf"),
            ValueError,
            r"^sgd needs a finite learning_rate, got learning_rate=inf",
        ),
        (jnp.ones(3), ValueError, r"^sgd needs a scalar learning_rate, got shape \(3,\)\.$"),
        ("0.1", TypeError, r"^sgd needs a real number as learning_rate, got .*='0\.1'\.$"),
        (None, TypeError, r"^sgd needs a real number as learning_rate, got .*=None\.$"),
    ],
    ids=["nan", "inf", "vector", "string", "none"],
)
def test_refuses_a_bad_learning_rate(learning_rate, error, message):
    with pytest.raises(error, match=message):
        sgd(learning_rate)


def test_does_not_read_a_learning_rate_that_may_be_traced():
    updates = jax.vmap(lambda rate: sgd(rate).update(jnp.array(1.0), sgd(rate).init(1.0))[0])(
        jnp.array([1.0, jnp.nan])
    )
    np.testing.assert_array_equal(updates, [-1.0, jnp.nan])


def test_refuses_integer_gradients():
    optimizer = sgd(0.1)
    with pytest.raises(TypeError, match=r"^sgd needs floating .* got int32 at 'w'\.$"):
        optimizer.update({"w": jnp.array([1, 2])}, optimizer.init({"w": jnp.ones(2)}))
