import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import OneStep, Unroll
from jaxopt_tut.bilevel.recipes import (
    distill,
    hyperclean,
    imaml,
    learn_initializer,
    learn_schedule,
    maml,
    tune_regularizer,
)
from jaxopt_tut.optimizers import adam, sgd
from tests.bilevel.problems import make_ridge

pytestmark = pytest.mark.slow

TASKS = jnp.array([0.5, 1.0, 3.0]), jnp.array([-1.0, 0.5, 2.0])  # curvatures, minima


def task_loss(y, task):
    curvature, minimum = task
    return 0.5 * curvature * (y - minimum) ** 2


@pytest.mark.parametrize(("first_order", "power"), [(False, 2), (True, 1)], ids=["exact", "first"])
def test_maml_ends_at_its_own_optimum_on_quadratics(first_order, power):
    curvatures, minima = TASKS
    weights = curvatures * (1 - 0.2 * curvatures) ** power
    learned = jax.jit(
        lambda: maml(
            task_loss,
            0.0,
            TASKS,
            TASKS,
            solver=sgd(0.2),
            inner_steps=1,
            optimizer=sgd(1.0),
            num_steps=100,
            first_order=first_order,
        )
    )()
    np.testing.assert_allclose(learned.value, jnp.sum(weights * minima) / weights.sum(), rtol=1e-4)


def test_imaml_ends_at_its_optimum_on_quadratics():
    curvatures, minima = TASKS
    strength = 1.5
    # the solution moves by s / (s + c) with the centre, and so does the query's misfit
    weights = curvatures * (strength / (strength + curvatures)) ** 2
    learned = jax.jit(
        lambda: imaml(
            task_loss,
            0.0,
            TASKS,
            TASKS,
            strength=strength,
            solver=sgd(0.3),
            inner_steps=80,
            optimizer=sgd(1.5),
            num_steps=100,
        )
    )()
    np.testing.assert_allclose(learned.value, jnp.sum(weights * minima) / weights.sum(), rtol=1e-4)


def test_hyperclean_takes_the_weight_from_corrupted_labels():
    rng = np.random.default_rng(0)
    inputs, slope = rng.standard_normal((60, 3)), np.array([1.0, -2.0, 0.5])
    labels = inputs @ slope
    is_wrong = np.arange(60) < 20
    labels = np.where(is_wrong, -labels, labels)
    batch = lambda rows: (
        jnp.asarray(inputs[rows], "float32"),
        jnp.asarray(labels[rows], "float32"),
    )
    losses = lambda y, batch: (batch[0] @ y - batch[1]) ** 2
    learned = jax.jit(
        lambda: hyperclean(
            losses,
            jnp.zeros(3),
            batch(slice(0, 45)),
            batch(slice(45, 60)),
            solver=sgd(0.2),
            inner_steps=80,
            optimizer=adam(0.2),
            num_steps=60,
        )
    )()
    kept = learned.value > 0.5
    # a label near 0 is nearly right with either sign
    clear = np.abs(labels[:45]) > 0.5
    assert jnp.mean((kept == ~is_wrong[:45])[clear]) >= 0.9
    assert learned.losses[-1] < 0.1 * learned.losses[0]


def test_learned_rates_are_the_inverse_curvatures():
    curvatures = jnp.array([1.0, 4.0])
    loss = lambda w: 0.5 * jnp.sum(curvatures * w**2)
    learned = jax.jit(
        lambda: learn_schedule(
            loss, jnp.ones(2), inner_steps=2, optimizer=adam(0.05), num_steps=400, start=0.4
        )
    )()
    np.testing.assert_allclose(jnp.sort(learned.value), [0.25, 1.0], rtol=0.05)


def test_a_schedule_starts_from_one_rate_or_one_each():
    rates = jnp.array([0.1, 0.3])
    loss = lambda w: jnp.sum(w**2)
    options = {"inner_steps": 2, "optimizer": adam(0.1), "num_steps": 0}
    # float32: the logarithm and back
    for start in (rates, 0.1):
        learned = learn_schedule(loss, jnp.ones(2), start=start, **options)
        np.testing.assert_allclose(learned.value, jnp.full(2, start), rtol=1e-6)


def test_the_tuned_strength_is_the_best_of_a_grid():
    ridge = make_ridge("float32")
    slope = 0.4 * jnp.array([1.0, -1.0, 0.5, 0.0, 2.0])
    noisy = ridge._replace(
        targets=ridge.train @ slope + ridge.targets,
        validation_targets=ridge.validation @ slope + ridge.validation_targets,
    )
    loss = lambda X, t: lambda w: 0.5 * jnp.mean((X @ w - t) ** 2)
    validation = loss(noisy.validation, noisy.validation_targets)
    learned = jax.jit(
        lambda: tune_regularizer(
            loss(noisy.train, noisy.targets),
            validation,
            jnp.zeros(5),
            solver=sgd(0.3),
            inner_steps=150,
            optimizer=adam(0.1),
            num_steps=100,
            start=0.1,
        )
    )()
    values = jax.vmap(lambda z: validation(noisy.solution(z)))(jnp.linspace(-6.0, 2.0, 161))
    assert 0 < jnp.argmin(values) < 160
    found = validation(noisy.solution(jnp.log(learned.value)))
    assert found <= jnp.min(values) * (1 + 1e-3)


def test_distilled_points_train_better_than_those_they_start_from():
    ridge = make_ridge("float32")
    loss = lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2)
    learned = jax.jit(
        lambda: distill(
            loss,
            jnp.zeros(5),
            ridge.validation[:3],
            ridge.validation_targets[:3],
            (ridge.train, ridge.targets),
            solver=sgd(0.1),
            inner_steps=30,
            optimizer=adam(0.05),
            num_steps=80,
        )
    )()
    assert learned.value.shape == (3, 5)
    assert learned.losses[-1] < 0.7 * learned.losses[0]


def test_learned_gains_lower_the_loss_after_training():
    target = jnp.arange(1.0, 5.0)
    loss = lambda w, batch: jnp.mean((w["a"] * w["b"] - batch) ** 2)
    start = {"a": jnp.full(4, 0.1), "b": jnp.full(4, 0.1)}
    learned = jax.jit(
        lambda: learn_initializer(
            loss,
            start,
            jnp.stack([target] * 5),
            target,
            solver=sgd(0.01),
            optimizer=adam(0.1),
            num_steps=80,
        )
    )()
    assert jax.tree.structure(learned.value) == jax.tree.structure(start)
    assert learned.losses[-1] < 0.3 * learned.losses[0]


def test_a_recipe_takes_any_mode():
    options = {"solver": sgd(0.4), "inner_steps": 40, "optimizer": sgd(0.5), "num_steps": 3}
    run = lambda mode: tune_regularizer(
        lambda w: 0.5 * (w - 2.0) ** 2,
        lambda w: (w - 1.0) ** 2,
        0.0,
        diff=mode,
        start=0.2,
        **options,
    )
    exact, biased = jax.jit(lambda: (run(Unroll()).losses, run(OneStep()).losses))()
    assert exact[-1] < biased[-1] < biased[0]
