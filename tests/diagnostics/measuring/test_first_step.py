"""Optimizers of every kind, and the step that the doctor judges them by."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from jaxopt_tut import optimizers
from jaxopt_tut.diagnostics import THRESHOLDS, diagnose
from jaxopt_tut.diagnostics.diagnosis import MANY_UPDATES
from jaxopt_tut.diagnostics.measuring.first_step import take_first_step

# Strict promotion, which the suite sets, forbids the products with booleans inside optax.
loose = jax.numpy_dtype_promotion("standard")
X = jax.random.normal(jax.random.key(0), (64, 8))
WEIGHT = jax.random.normal(jax.random.key(1), (8, 3)) / jnp.sqrt(8)


def loss_fn(params, x):
    return jnp.mean((x @ params - jnp.sin(x[:, :3])) ** 2)


def first_step(optimizer, num_updates):
    value_fn = lambda weight: loss_fn(weight, X)
    return take_first_step(value_fn, WEIGHT, jax.grad(value_fn)(WEIGHT), optimizer, num_updates)


def verdicts(optimizer, params=WEIGHT, loss=loss_fn):
    with loose:
        found = diagnose(loss, params, X, optimizer=optimizer).verdicts
    return [verdict for verdict in found if verdict.kind.startswith("lr_")]


CLIMB = optax.chain(contrib.normalize(), optax.sgd(0.5))
RATE = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 10_000, 20_000)


@pytest.mark.parametrize(
    "optimizer",
    [
        contrib.sam(optax.adam(1e-3), CLIMB),
        contrib.sam(optax.adam(1e-3), CLIMB, sync_period=3),
        contrib.sam(optax.adam(1e-3), CLIMB, opaque_mode=True),
        optax.chain(optax.clip(1.0), contrib.sam(optax.adam(1e-3), CLIMB, opaque_mode=True)),
        optax.MultiSteps(optax.adam(1e-3), 16),
        optax.adam(optax.linear_schedule(0.0, 1e-3, 10_000)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE)),
        optimizers.momentum(3e-4, decay=0.9),
        contrib.schedule_free_adamw(1e-3, warmup_steps=1000),
        contrib.prodigy(),
        contrib.dog(),
        optax.lbfgs(),
        optimizers.newton(),
        optax.polyak_sgd(max_learning_rate=0.1),
        contrib.sophia(1e-4),
        optax.chain(optax.adam(1e-3), contrib.reduce_on_plateau()),
        optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
    ],
    ids=[
        "sam", "sam of three steps", "opaque sam", "chained sam", "accumulation", "warm-up",
        "clipped warm-up", "momentum", "schedule-free", "prodigy", "dog", "lbfgs", "newton",
        "polyak", "sophia", "plateau", "injected",
    ],
)  # fmt: skip
def test_a_right_optimizer_moves_and_not_too_far(optimizer):
    """What the verdicts ask for; the statistics around it take seconds to compile."""
    with loose:
        step = jax.jit(first_step, static_argnums=(0, 1))(optimizer, MANY_UPDATES)
    (update,) = step.updates
    ratio = jnp.linalg.norm(update) / jnp.linalg.norm(WEIGHT)
    assert ratio >= THRESHOLDS.low_update or step.growth > THRESHOLDS.growth
    assert ratio <= THRESHOLDS.high_update or step.searches
    assert step.loss <= loss_fn(WEIGHT, X)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [contrib.sam(optax.adam(1e-3), CLIMB), optax.adam(optax.linear_schedule(0.0, 1e-3, 10_000))],
    ids=["sam", "warm-up"],
)
def test_a_right_optimizer_gets_no_verdict(optimizer):
    assert verdicts(optimizer) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "kind", "cause"),
    [
        (optax.adam(3.0), "lr_too_high", "longer than the gradient can be trusted"),
        (contrib.sam(optax.adam(3.0), CLIMB), "lr_too_high", "longer than the gradient"),
        (optax.MultiSteps(optax.adam(3.0), 4), "lr_too_high", "longer than the gradient"),
        (optax.scale(0.5), "lr_too_high", "goes up the gradient"),
        (optax.adam(1e-6), "lr_too_low", "too small for the sizes of weights"),
        (optax.sgd(0.0), "lr_too_low", "a learning rate of 0"),
    ],
    ids=["long", "long sam", "long accumulation", "uphill", "short", "zero"],
)
def test_a_wrong_step_is_named_with_its_cause(optimizer, kind, cause):
    (verdict,) = verdicts(optimizer)
    assert verdict.kind == kind
    assert cause in verdict.cause


@pytest.mark.slow
def test_updates_of_zero_from_gradients_of_zero_say_so():
    def flat(params, x):
        return jnp.mean(jnp.round(x @ params))

    (verdict,) = verdicts(optax.sgd(0.1), loss=flat)
    assert verdict.kind == "lr_too_low"
    assert verdict.evidence == "all gradients are zero, and so are the updates"


def test_a_late_update_is_judged_where_it_happens():
    """Four gradients of one batch are accumulated, and the fourth update is Adam's first."""
    with loose:
        once = first_step(optax.adam(1e-3), 1)
        late = first_step(optax.MultiSteps(optax.adam(1e-3), 4), MANY_UPDATES)
    np.testing.assert_allclose(late.updates[0], once.updates[0], rtol=1e-5)


def test_sharpness_aware_minimisation_is_judged_by_where_it_comes_back():
    climb = optax.chain(contrib.normalize(), optax.sgd(0.5))
    gradient = jax.grad(loss_fn)
    up = gradient(WEIGHT, X)
    place = WEIGHT + 0.5 * up / jnp.linalg.norm(up)
    moved = WEIGHT - 0.1 * gradient(place, X)
    with loose:
        step = first_step(contrib.sam(optax.sgd(0.1), climb), 1)
    np.testing.assert_allclose(step.loss, loss_fn(moved, X), rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (
            optimizers.levenberg_marquardt(),
            "^diagnose hands over value, .*; the optimizer asks for 'residual_fn'",
        ),
        (
            optax.masked(optax.sgd(0.1), {"no": True}),
            "^diagnose needs an optimizer that takes a step, got one that says: ",
        ),
        (optax.adam, r"diagnose needs an optimizer, got a function: call adam\(\.\.\.\)\."),
    ],
    ids=["residuals", "of no step", "not called"],
)
def test_an_optimizer_that_needs_more_is_refused_in_a_sentence(optimizer, message):
    with pytest.raises(TypeError, match=message):
        verdicts(optimizer)
