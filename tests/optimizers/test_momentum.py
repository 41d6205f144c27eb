"""Momentum: the equations in NumPy, optax's heavy ball, closed form, derivatives, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxopt_tut.optimizers import momentum, scale_by_momentum, sgd

GRADIENTS = np.random.default_rng(0).normal(size=(40, 3))


def updates_of(optimizer, gradients):
    """Stack the updates that a transform makes of a sequence of gradients."""

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state)
        return state, updates

    return jax.lax.scan(step, optimizer.init(gradients[0]), gradients)[1]


def oracle(gradients, learning_rate, decay, nesterov):
    m, updates = 0.0, []
    for g in gradients:
        m = decay * m + (1 - decay) * g
        updates.append(-learning_rate * (decay * m + (1 - decay) * g if nesterov else m))
    return np.array(updates)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_matches_its_equations_in_numpy(decay, nesterov):
    actual = updates_of(momentum(0.3, decay=decay, nesterov=nesterov), jnp.asarray(GRADIENTS))
    # forty steps that round three times each, on gradients of size up to 3
    expected = oracle(GRADIENTS, 0.3, decay, nesterov)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=120 * 3 * 2.3e-16)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("nesterov", [False, True])
def test_equals_the_heavy_ball_of_optax_at_a_shorter_rate(nesterov):
    actual = updates_of(momentum(0.3, decay=0.8, nesterov=nesterov), jnp.asarray(GRADIENTS))
    heavy_ball = optax.sgd(0.3 * (1 - 0.8), momentum=0.8, nesterov=nesterov)
    expected = updates_of(heavy_ball, jnp.asarray(GRADIENTS))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=120 * 3 * 2.3e-16)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("nesterov", [False, True])
def test_matches_the_closed_form_on_a_quadratic(nesterov):
    """On curvature h the iterates obey a linear recursion: powers of a 2x2 matrix."""
    rate, b, h, num_steps = 0.4, 0.9, 2.0, 50
    optimizer = momentum(rate, decay=b, nesterov=nesterov)

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(h * w, state)
        return (w + updates, state), None

    w = jnp.array(1.0)
    (w, _), _ = jax.lax.scan(step, (w, optimizer.init(w)), length=num_steps)
    into_m = np.array([b, (1 - b) * h])  # m and w make the next m ...
    into_w = np.array([0, 1]) - rate * (
        b * into_m + np.array([0, (1 - b) * h]) if nesterov else into_m
    )  # ... and the next w
    expected = np.linalg.matrix_power(np.array([into_m, into_w]), num_steps)[1, 1]
    # condition of the eigenvectors < 100, two roundings a step
    np.testing.assert_allclose(w, expected, rtol=0, atol=100 * 100 * 2.3e-16)


def test_without_decay_it_is_gradient_descent():
    gradients = jnp.asarray(GRADIENTS, jnp.float32)
    expected = updates_of(sgd(0.3), gradients)
    np.testing.assert_array_equal(updates_of(momentum(0.3, decay=0.0), gradients), expected)


@functools.partial(jax.jit, static_argnames="decay")
def _averages(gradients, decay):
    return updates_of(scale_by_momentum(decay=decay), gradients)


@settings(deadline=None, max_examples=20)
@given(arrays(np.int8, (5, 2)), arrays(np.int8, (5, 2)), st.sampled_from([0.0, 0.75]))
def test_is_linear_in_the_gradients(left, right, decay):
    # integers below 2^8, five times multiplied by quarters: exact in the 24 bits of float32
    left, right = left.astype(np.float32), right.astype(np.float32)
    expected = _averages(left, decay) + _averages(right, decay)
    np.testing.assert_array_equal(_averages(left + right, decay), expected)


@functools.partial(jax.jit, static_argnames="nesterov")
def _score_after_twenty_steps(rate, decay, nesterov):
    """Run on a quadratic where the second gradient is always exactly zero."""
    curvatures = jnp.array([0.5, 0.0, 2.0])
    optimizer = momentum(rate, decay=decay, nesterov=nesterov)

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(curvatures * w, state)
        return (w + updates, state), None

    w = jnp.ones(3)
    return jnp.sum(jax.lax.scan(step, (w, optimizer.init(w)), length=20)[0][0])


_derivatives_after_twenty_steps = jax.jit(
    jax.grad(_score_after_twenty_steps, argnums=(0, 1)), static_argnames="nesterov"
)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_derivatives_through_twenty_steps_match_finite_differences(decay, nesterov):
    rate, h = 0.2, 1e-6  # rounding eps / h = 2e-10, truncation of order h^2
    score = functools.partial(_score_after_twenty_steps, nesterov=nesterov)
    by_rate, by_decay = _derivatives_after_twenty_steps(rate, decay, nesterov=nesterov)
    expected = (score(rate + h, decay) - score(rate - h, decay)) / (2 * h)
    np.testing.assert_allclose(by_rate, expected, rtol=1e-7, equal_nan=False)
    expected = (score(rate, decay + h) - score(rate, decay - h)) / (2 * h)
    np.testing.assert_allclose(by_decay, expected, rtol=1e-7, equal_nan=False)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_float32_average_of_bfloat16_gradients_is_rounded_only_at_the_end(nesterov):
    gradients = jnp.asarray(GRADIENTS, jnp.bfloat16)
    mixed = momentum(0.5, decay=0.99, nesterov=nesterov, accumulator_dtype="float32")
    assert mixed.init(gradients[0])[0].mu.dtype == jnp.float32
    wide = scale_by_momentum(decay=0.99, nesterov=nesterov)
    expected = updates_of(wide, gradients.astype(jnp.float32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(updates_of(mixed, gradients), -0.5 * expected)


def test_a_complex_gradient_is_averaged_like_its_two_parts():
    gradients = np.asarray(GRADIENTS, np.float32)
    both = updates_of(momentum(0.3), gradients + 2j * gradients)
    expected = updates_of(momentum(0.3), gradients)
    # a complex product rounds each part twice; gradients of size up to 3, averaged over ten
    tolerance = {"rtol": 0, "atol": 0.3 * 3 * 10 * 1.2e-7}
    np.testing.assert_allclose(both.real, expected, **tolerance)
    np.testing.assert_allclose(both.imag, 2 * expected, **tolerance)


@pytest.mark.parametrize("factory", [lambda **kw: momentum(0.1, **kw), scale_by_momentum])
@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"decay": 1.2}, ValueError, r"^momentum needs 0 <= decay < 1, got decay=1\.2\.$"),
        ({"decay": -0.1}, ValueError, r"^momentum needs 0 <= decay < 1, got decay=-0\.1\.$"),
        ({"decay": "high"}, TypeError, r"^momentum needs a real number as decay, got decay='high'"),
        (
            {"accumulator_dtype": "int32"},
            ValueError,
            r"^momentum needs a floating or complex accumulator_dtype, got .*=int32\.$",
        ),
    ],
    ids=["above", "below", "string", "dtype"],
)
def test_refuses_bad_options(factory, option, error, message):
    with pytest.raises(error, match=message):
        factory(**option)


def test_refuses_a_bad_learning_rate():
    with pytest.raises(ValueError, match=r"^momentum needs a finite learning_rate, got .*=nan\.$"):
        momentum(float("nan"))


def test_refuses_gradients_of_another_shape():
    optimizer = momentum(0.1)
    with pytest.raises(ValueError, match=r"^momentum needs leaves of the same shape, .* at 'w'"):
        optimizer.update({"w": jnp.ones(3)}, optimizer.init({"w": jnp.ones(2)}))
