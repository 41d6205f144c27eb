"""Recipes refuse what makes no problem, and take losses with auxiliary values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import HypergradientWarning, Unroll, argmin, bilevel_step, hypergrad
from jaxopt_tut.bilevel.recipes import (
    distill,
    hyperclean,
    imaml,
    learn,
    learn_initializer,
    learn_schedule,
    maml,
    tune_regularizer,
)
from jaxopt_tut.optimizers import sgd

TASKS = jnp.array([1.0, 3.0])
STEPS = {"solver": sgd(0.1), "inner_steps": 2, "optimizer": sgd(0.1), "num_steps": 2}


def miss(w, batch):
    w = w["a"] if isinstance(w, dict) else w
    return jnp.mean((w - batch) ** 2)


def fit_line(w, batch):
    return jnp.mean((w * batch[0] - batch[1]) ** 2)


ARGUMENTS = {
    "maml": (maml, (miss, 0.0, TASKS, TASKS), STEPS),
    "imaml": (imaml, (miss, 0.0, TASKS, TASKS), STEPS | {"strength": 1.0}),
    "distill": (distill, (fit_line, 0.0, jnp.ones(2), jnp.ones(2), (TASKS, TASKS)), STEPS),
    "hyperclean": (hyperclean, (lambda w, b: (w - b) ** 2, 0.0, TASKS, TASKS), STEPS),
    "learn_initializer": (
        learn_initializer,
        (miss, {"a": jnp.ones(())}, TASKS, 4.0),
        {"solver": sgd(0.1), "optimizer": sgd(0.1), "num_steps": 2},
    ),
    "learn_schedule": (
        learn_schedule,
        (lambda w: w**2, 1.0),
        {"inner_steps": 2, "optimizer": sgd(0.1), "num_steps": 2},
    ),
    "tune_regularizer": (tune_regularizer, (lambda w: (w - 2) ** 2, lambda w: w**2, 0.0), STEPS),
}


def with_aux(function):
    return lambda *args: (function(*args), {"metric": args[0], "count": jnp.int32(3)})


BAD = {
    "negative_start": ("tune_regularizer", {"start": -1.0}, "start > 0, got start=-1.0"),
    "zero_start": ("tune_regularizer", {"start": 0}, "start > 0, got start=0"),
    "nan_start": ("tune_regularizer", {"start": np.nan}, "finite start > 0, got start=nan"),
    "array_start": ("tune_regularizer", {"start": jnp.float32(-2)}, "start > 0, got start=-2.0"),
    "starts": ("tune_regularizer", {"start": jnp.ones(2)}, r"one number as start, .* \(2,\)"),
    "rate": ("learn_schedule", {"start": -0.1}, "start > 0, got start=-0.1"),
    "a_rate": ("learn_schedule", {"start": jnp.array([0.1, 0.0])}, "start > 0, got start="),
    "rates": ("learn_schedule", {"start": np.ones(3)}, r"inner_steps=2 rates, got shape \(3,\)"),
    "no_step": ("learn_schedule", {"inner_steps": 0}, "inner_steps >= 1, got inner_steps=0"),
    "half_a_step": ("maml", {"inner_steps": 1.5}, "whole number inner_steps >= 1, got inner_st"),
    "strength": ("imaml", {"strength": -1.0}, "strength > 0, got strength=-1.0"),
    "no_strength": ("imaml", {"strength": 0.0}, "strength > 0, got strength=0.0"),
    "penalty": ("hyperclean", {"penalty": -1e-3}, "penalty >= 0, got penalty=-0.001"),
    "tasks": ("maml", {3: jnp.ones(3)}, r"tasks, got \(2,\) at 'support', \(3,\) at 'query'"),
    "no_tasks": ("imaml", {2: jnp.ones(0), 3: jnp.ones(0)}, r"one or more tasks .* \(0,\) at 'su"),
    "scalar_task": ("maml", {2: 1.0, 3: 1.0}, r"one or more tasks .* got shape \(\) at 'support'"),
    "nothing": ("maml", {2: None}, "arrays with a leading axis of tasks, got no support"),
    "labels": ("distill", {3: jnp.ones(3)}, r"axis of examples, got \(2,\) at 'inputs', \(3,\)"),
    "no_input": ("distill", {2: jnp.ones(0), 3: jnp.ones(0)}, "one or more examples along"),
    "no_data": ("distill", {4: (jnp.ones(0), jnp.ones(0))}, r"in data, got shape \(0,\) at 'data"),
    "no_example": ("hyperclean", {2: jnp.ones(0)}, r"more examples, got shape \(0,\) on train"),
    "no_judge": ("hyperclean", {3: jnp.ones(0)}, r"got shape \(0,\) on validation"),
    "one_loss": ("hyperclean", {0: miss}, r"one loss for each .* got shape \(\) on train"),
    "no_batch": ("learn_initializer", {2: jnp.ones(0)}, "one or more steps along the leading axis"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_problem_is_refused_in_a_sentence(name):
    recipe, changes, match = BAD[name]
    function, args, options = ARGUMENTS[recipe]
    args = [changes.get(place, arg) for place, arg in enumerate(args)]
    named = {key: value for key, value in changes.items() if isinstance(key, str)}
    with pytest.raises(ValueError, match=f"{recipe} needs.*{match}"):
        function(*args, **{**options, **named})


@pytest.mark.parametrize("recipe", ARGUMENTS)
def test_a_negative_number_of_steps_is_refused(recipe):
    function, args, options = ARGUMENTS[recipe]
    with pytest.raises(ValueError, match=f"{recipe} needs a whole number num_steps >= 0, got"):
        function(*args, **{**options, "num_steps": -1})


def test_a_traced_value_is_not_looked_at():
    function, args, options = ARGUMENTS["tune_regularizer"]
    run = lambda start: function(*args, start=start, **{**options, "num_steps": 0}).value
    np.testing.assert_allclose(jax.jit(run)(2.0), 2.0, rtol=1e-6)
    assert jnp.isnan(jax.jit(run)(-1.0))


def test_rates_may_be_a_list():
    function, args, options = ARGUMENTS["learn_schedule"]
    learned = function(*args, start=[0.1, 0.3], **{**options, "num_steps": 0})
    np.testing.assert_allclose(learned.value, [0.1, 0.3], rtol=1e-6)


SLOWER = {"imaml", "distill", "hyperclean", "learn_initializer", "learn_schedule"}
SOME = [pytest.param(r, marks=pytest.mark.slow) if r in SLOWER else r for r in ARGUMENTS]


@pytest.mark.parametrize("recipe", SOME)
def test_a_loss_may_return_auxiliary_values(recipe):
    function, args, options = ARGUMENTS[recipe]
    pairs = [with_aux(arg) if callable(arg) else arg for arg in args]
    plain, aux = jax.jit(lambda: (function(*args, **options), function(*pairs, **options)))()
    np.testing.assert_array_equal(aux.losses, plain.losses)
    jax.tree.map(np.testing.assert_array_equal, aux.value, plain.value)


@pytest.mark.parametrize("batched", [False, True], ids=["plain", "batches"])
def test_argmin_hypergrad_and_bilevel_step_take_losses_with_auxiliary_values(batched):
    batches = {"batches": jnp.array([1.0, 2.0])} if batched else {}
    f = (lambda y, z, b: (y - b * z) ** 2) if batched else (lambda y, z: (y - z) ** 2)
    outer = lambda y, z: y * z
    options = {"solver": sgd(0.1), "steps": 2, "diff": Unroll(), **batches}
    expected, expected_grads, _ = hypergrad(outer, f, 1.0, 2.0, **options)
    value, grads, _ = hypergrad(with_aux(outer), with_aux(f), 1.0, 2.0, **options)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(grads["z"], expected_grads["z"])
    np.testing.assert_allclose(argmin(with_aux(f), 1.0, 2.0, **options).y * 2, value, rtol=1e-6)
    if batched:
        return
    step = bilevel_step(with_aux(outer), with_aux(f), outer_optimizer=sgd(0.1), **options)
    after, _ = step.update(step.init(1.0, 2.0))
    np.testing.assert_allclose(after.z, 2 - 0.1 * grads["z"], rtol=1e-6)


def test_a_pair_with_a_loss_that_is_no_scalar_is_refused():
    with pytest.raises(ValueError, match="argmin needs f to return a real scalar"):
        argmin(lambda y, z: (y - z, 0.0), jnp.ones(2), 1.0, solver=sgd(0.1), steps=1)


def test_a_recipe_that_meets_infinity_says_so_outside_of_jit():
    grow = lambda x: (x, -1e30 * x)
    with pytest.warns(HypergradientWarning, match="learn met a loss that is not finite"):
        learn(grow, jnp.float32(1.0), optax.sgd(1e10), 4)
