"""What all line searches promise, and what each promises by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.optimizers import (
    bfgs,
    lbfgs,
    line_search,
    newton,
    newton_cg,
    nonlinear_cg,
    trust_region,
)

SEARCHES = pytest.mark.parametrize(
    "make", [line_search.armijo, line_search.wolfe, line_search.exact], ids=lambda m: m.__name__
)
CURVATURE = jnp.array([1.0, 30.0, 0.25])


def quadratic(w):
    return 0.5 * jnp.sum(CURVATURE.astype(w.dtype) * (w - 1) ** 2)


def double_well(w):
    return jnp.sum((w**2 - 1) ** 2)


def step(search, fun, w, direction):
    return jax.jit(lambda w, d: search.update(d, search.init(w), w, value_fn=fun))(w, direction)


@SEARCHES
@pytest.mark.parametrize("length", [1e-4, 1e-1, 1.0, 1e3])
@pytest.mark.parametrize("fun", [quadratic, double_well])
def test_decreases_the_value_and_returns_value_and_gradient_there(make, length, fun):
    w = jnp.array([2.0, -1.5, 0.5])
    updates, state = step(make(), fun, w, -length * jax.grad(fun)(w))
    value, grad = jax.value_and_grad(fun)(w + updates)
    # the point is rounded once more when the update is added
    scale = 20 * jnp.finfo(w.dtype).eps
    assert not state.failed
    assert value < fun(w)
    np.testing.assert_allclose(state.value, value, rtol=scale, atol=scale)
    np.testing.assert_allclose(state.grad, grad, rtol=1e2 * scale, atol=1e2 * scale)


@pytest.mark.parametrize("c2", [0.9, 0.1])
@pytest.mark.parametrize("length", [1e-5, 1.0, 1e5])
@pytest.mark.usefixtures("x64")
def test_wolfe_fulfils_both_conditions(c2, length):
    w = jnp.array([2.0, -1.5, 0.5])
    for fun in (quadratic, double_well):
        direction = -length * jax.grad(fun)(w)
        updates, state = step(line_search.wolfe(c2=c2), fun, w, direction)
        slopes = [jnp.vdot(jax.grad(fun)(p), direction) for p in (w, w + updates)]
        assert fun(w + updates) <= fun(w) + 1e-4 * state.step_size * slopes[0]
        assert abs(slopes[1]) <= -c2 * slopes[0]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0.01, 100.0), min_size=3, max_size=3), st.integers(0, 2**31 - 1))
def test_exact_step_on_a_quadratic_has_the_closed_form(curvatures, seed):
    with jax.enable_x64(True):
        h = jnp.array(curvatures)
        w = jax.random.normal(jax.random.key(seed), (3,))
        fun = lambda p, h: 0.5 * jnp.sum(h * p**2)
        g = h * w
        search = line_search.exact()
        updates, state = _exact_step(search, fun, w, h)
        # the slope is found to root eps of what it was, and the step depends linearly on it
        np.testing.assert_allclose(state.step_size, g @ g / (g @ (h * g)), rtol=1e-7)
        assert abs(g @ state.grad) <= 1e-7 * (g @ g)
        np.testing.assert_allclose(updates, -state.step_size * g, rtol=1e-12)


def _exact_step(search, fun, w, h, _cache={}):  # noqa: B006
    if not _cache:
        _cache["jit"] = jax.jit(
            lambda w, h: search.update(-h * w, search.init(w), w, value_fn=fun, h=h)
        )
    return _cache["jit"](w, h)


@pytest.mark.usefixtures("x64")
def test_exact_finds_a_minimum_of_a_function_that_is_no_parabola():
    fun = lambda t: jnp.exp(t) - 3.0 * t
    updates, state = step(line_search.exact(), fun, jnp.array(0.0), jnp.array(0.01))
    np.testing.assert_allclose(updates, np.log(3.0), rtol=1e-8)
    assert state.num_evaluations <= 20


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("power", [2, 4, 8])
def test_wolfe_finds_the_order_of_magnitude_in_few_trials(power):
    fun = lambda w: jnp.sum(w**power - 2.0 * w)
    w = jnp.array([0.0])
    _, state = step(line_search.wolfe(), fun, w, jnp.array([1e12]))
    assert not state.failed
    assert 1e-13 < state.step_size < 1e-11
    assert state.num_evaluations <= 8  # halvings would be 40


def test_armijo_takes_the_first_power_that_decreases_enough():
    fun = lambda w: 50 * w**2
    _, state = step(line_search.armijo(0.5), fun, jnp.array(1.0), jnp.array(-100.0))
    # enough with c1 = 1/2 means t <= 1/100
    assert state.step_size == 2.0**-7
    assert state.num_evaluations == 9  # the start, whose value was not given, and 8 trials


@SEARCHES
@pytest.mark.parametrize("direction", [1.0, 0.0, np.nan, np.inf], ids=str)
def test_a_direction_that_does_not_descend_fails_without_a_step(make, direction):
    w = jnp.array([2.0, 2.0, 2.0])
    updates, state = step(make(), quadratic, w, direction * jax.grad(quadratic)(w))
    assert state.failed
    np.testing.assert_array_equal(updates, 0)
    np.testing.assert_array_equal(state.grad, jax.grad(quadratic)(w))


@SEARCHES
def test_a_value_that_is_nowhere_lower_fails_after_a_bounded_number_of_trials(make):
    @jax.custom_jvp
    def liar(w):
        return jnp.sum(w**2)

    liar.defjvp(lambda w, dw: (liar(w[0]), -jnp.sum(dw[0])))  # claims to fall along ones
    w = jnp.zeros(3)
    updates, state = step(make(max_evaluations=12), liar, w, jnp.ones(3))
    assert state.failed
    assert state.num_evaluations <= 13
    np.testing.assert_array_equal(updates, 0)


@SEARCHES
def test_a_function_without_a_lower_bound_ends(make):
    fun = lambda w: -jnp.sum(w)
    updates, state = step(make(max_evaluations=15), fun, jnp.zeros(2), jnp.ones(2))
    assert np.all(np.isfinite(updates))
    assert np.all(updates > 0)
    assert state.failed == (make is not line_search.armijo)


@SEARCHES
def test_steps_back_from_where_the_function_is_not_finite(make):
    fun = lambda w: jnp.sum(jnp.where(w > 0, w - jnp.log(jnp.where(w > 0, w, 1)), jnp.nan))
    w = jnp.array([5.0])
    updates, state = step(make(), fun, w, -100 * jax.grad(fun)(w))
    assert not state.failed
    assert fun(w + updates) < fun(w)


@SEARCHES
def test_lanes_of_a_batch_are_those_of_a_loop(make):
    search = make()
    starts = jnp.array([[2.0, 2.0, 2.0], [0.0, 1.5, -9.0], [1.0, 1.0, 1.0]])
    one = lambda w: search.update(-jax.grad(quadratic)(w), search.init(w), w, value_fn=quadratic)
    batched, state = jax.jit(jax.vmap(one))(starts)
    for i, w in enumerate(starts):
        alone, _ = jax.jit(one)(w)
        np.testing.assert_allclose(batched[i], alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state.failed, [False, False, True])  # the last is the minimum


@SEARCHES
def test_trees_with_complex_leaves_are_searched_along_steepest_ascent(make):
    target = {"a": jnp.array([1.0 + 2.0j]), "b": jnp.array(3.0), "none": None}
    fun = lambda p: jnp.abs(p["a"][0] - target["a"][0]) ** 2 + (p["b"] - target["b"]) ** 2
    params = jax.tree.map(jnp.zeros_like, target)
    direction = jax.tree.map(lambda p, t: t - p, params, target)
    updates, state = step(make(), fun, params, direction)
    assert not state.failed
    np.testing.assert_allclose(updates["a"], target["a"], rtol=1e-5)
    np.testing.assert_allclose(updates["b"], target["b"], rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(optax.chain(optax.sgd(0.1), line_search.armijo()), id="armijo"),
        pytest.param(optax.chain(optax.sgd(0.1), line_search.wolfe()), id="wolfe"),
        pytest.param(optax.chain(optax.sgd(0.1), line_search.exact()), id="exact"),
        pytest.param(bfgs(), id="bfgs"),
        pytest.param(lbfgs(), id="lbfgs"),
        pytest.param(nonlinear_cg(), id="nonlinear_cg"),
        pytest.param(newton(), id="newton"),
        pytest.param(newton_cg(), id="newton_cg"),
        pytest.param(trust_region(), id="trust_region"),
    ],
)
def test_optax_reads_the_value_and_the_gradient_from_the_state(optimizer):
    w = jnp.array([2.0, 2.0, 2.0])
    value_and_grad = optax.value_and_grad_from_state(quadratic)
    state = optimizer.init(w)
    for _ in range(3):
        value, grad = value_and_grad(w, state=state)
        updates, state = optimizer.update(
            grad, state, w, value=value, grad=grad, value_fn=quadratic
        )
        w = optax.apply_updates(w, updates)
    assert value < quadratic(jnp.array([2.0, 2.0, 2.0]))


@SEARCHES
def test_missing_arguments_are_named(make):
    search, name = make(), make.__name__
    w = jnp.ones(2)
    state = search.init(w)
    with pytest.raises(ValueError, match=f"{name} needs value_fn"):
        search.update(-w, state, w)
    with pytest.raises(ValueError, match=f"{name} needs params"):
        search.update(-w, state, value_fn=jnp.sum)
    with pytest.raises(ValueError, match=f"{name} needs leaves of the same shape"):
        search.update(-jnp.ones(3), state, w, value_fn=jnp.sum)
    with pytest.raises(TypeError, match=f"{name} needs floating or complex parameters, got int32"):
        search.init(jnp.arange(3))


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda c1: line_search.armijo(c1), [1e-4, 0.5, 0.9]),
        (lambda shrink: line_search.armijo(shrink=shrink), [0.1, 0.5, 0.9]),
        (lambda c1: line_search.wolfe(c1, 0.95), [1e-4, 0.5, 0.9]),
        (lambda c2: line_search.wolfe(c2=c2), [0.01, 0.3, 0.9]),
        (lambda tol: line_search.exact(tol=tol), [1e-6, 1e-2, 0.5]),
    ],
    ids=["armijo c1", "armijo shrink", "wolfe c1", "wolfe c2", "exact tol"],
)
@pytest.mark.usefixtures("x64")
def test_hyperparameters_may_be_traced_and_in_another_precision(make, values):
    w = jnp.array([2.0, -1.5, 0.5])

    def found(value):
        search = make(value)
        direction = -100 * jax.grad(double_well)(w)
        return search.update(direction, search.init(w), w, value_fn=double_well)[1]

    values = np.array(values, np.float32)
    mapped = jax.vmap(found)(jnp.asarray(values))
    assert len(np.unique(mapped.step_size)) > 1  # they do something
    for i, value in enumerate(values):
        alone = found(float(value))
        assert mapped.num_evaluations[i] == alone.num_evaluations
        np.testing.assert_allclose(mapped.step_size[i], alone.step_size, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda c: line_search.wolfe(c2=c),
        lambda c: line_search.armijo(shrink=c),
        lambda c: line_search.exact(tol=c),
    ],
    ids=["wolfe", "armijo", "exact"],
)
def test_what_is_no_number_is_refused(make):
    with pytest.raises(TypeError, match="needs a real number as"):
        make("0.5")
    with pytest.raises(ValueError, match="needs a scalar"):
        make(jnp.full(2, 0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: line_search.armijo(0.0), "armijo needs 0 < c1 < 1, got c1=0.0"),
        (lambda: line_search.armijo(shrink=1.0), "armijo needs 0 < shrink < 1, got shrink=1.0"),
        (lambda: line_search.armijo(max_evaluations=0), "armijo needs max_evaluations >= 1, got"),
        (lambda: line_search.wolfe(0.9, 0.1), "wolfe needs 0 < c1 < c2 < 1, got c1=0.9, c2=0.1"),
        (lambda: line_search.wolfe(max_evaluations=0), "wolfe needs max_evaluations >= 1, got"),
        (lambda: line_search.wolfe(jnp.array(0.5), 1.5), "wolfe needs 0 < c1 < c2 < 1, got c1=0.5"),
        (lambda: line_search.exact(tol=0.0), "exact needs tol > 0, got tol=0.0"),
        (lambda: line_search.exact(max_evaluations=0), "exact needs max_evaluations >= 1, got"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
