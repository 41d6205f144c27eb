"""Whatever takes steps of an optimizer takes any, and hands it what it asks for.

Eight steps on a parabola, whose ends are known; `fit` and `diagnose` have tables of their own in
`training/test_steps.py` and `diagnostics/measuring/test_first_step.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import Implicit, argmin, bilevel_step
from jaxopt_tut.bilevel.recipes.learning import learn
from jaxopt_tut.calibration import coordinate_check
from jaxopt_tut.landscape.trajectories import descend
from jaxopt_tut.models import mlp
from jaxopt_tut.optimizers import line_search, minimize, newton, sgd

FLOAT32_EPS = float(np.finfo(np.float32).eps)
NUM_STEPS = 8
TARGET = np.array([1.0, -2.0], np.float32)
RADIUS, RATE = 0.01, 0.1


def bowl(w):
    return jnp.sum((w - TARGET) ** 2)


def sharpness_aware():
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(RADIUS))
    return optax.contrib.sam(sgd(RATE), climb, opaque_mode=True)


def end_of_sharpness_aware(limit):
    """Climb along the clipped gradient, and descend by the gradient up there."""
    gap = -TARGET
    for _ in range(NUM_STEPS):
        up = np.clip(2 * gap, -limit, limit)
        gap = gap - RATE * 2 * (gap + RADIUS * up / np.linalg.norm(up))
    return gap


# each with what is left of the way from 0 to the target
ASKING = {
    # f / |g|^2 g is half of the gap
    "value": (optax.polyak_sgd(), -TARGET / 2**NUM_STEPS),
    "value, accumulated": (optax.MultiSteps(optax.polyak_sgd(), 2), -TARGET / 2 ** (NUM_STEPS / 2)),
    "grad_fn": (sharpness_aware(), end_of_sharpness_aware(np.inf)),
    "grad_fn in a chain": (
        optax.chain(optax.clip(1.0), sharpness_aware()),
        end_of_sharpness_aware(1.0),
    ),
    # clipped at the learning rate
    "obj_fn": (optax.contrib.sophia(0.05, weight_decay=0.0), -TARGET + 0.4 * np.sign(TARGET)),
    # 0.6 of the gap is accepted at once
    "value_fn": (optax.chain(sgd(0.3), line_search.armijo()), -TARGET * 0.4**NUM_STEPS),
    "value_fn of optax": (optax.lbfgs(), 0 * TARGET),
    "second derivatives": (newton(), 0 * TARGET),
    "nothing": (optax.scale(-RATE), -TARGET * 0.8**NUM_STEPS),
}


def minimized(optimizer):
    return minimize(bowl, jnp.zeros(2), optimizer, max_steps=NUM_STEPS, gtol=0.0).params


def found(optimizer):
    inner = lambda y, z: bowl(y - z)
    zero = jnp.zeros(2)
    return argmin(inner, zero, zero, solver=optimizer, steps=NUM_STEPS).y


def descended(optimizer):
    return descend(bowl, jnp.zeros(2), optimizer, NUM_STEPS).points[-1]


def learned(optimizer):
    return learn(jax.value_and_grad(bowl), jnp.zeros(2), optimizer, NUM_STEPS).value


def learned_outside(optimizer):
    step = bilevel_step(
        lambda y, _: bowl(y),
        lambda y, z: jnp.sum((y - z) ** 2),
        solver=sgd(0.5),  # ends at z in a step
        steps=1,
        diff=Implicit(),
        outer_optimizer=optimizer,
    )
    state = step.init(jnp.zeros(2), jnp.zeros(2))
    for _ in range(NUM_STEPS):
        state, _ = step.update(state)
    return state.z


RUNNERS = [minimized, found, descended, learned, learned_outside]
QUICK = {("value", descended), ("grad_fn in a chain", learned), ("value, accumulated", found)}
QUICK |= {("obj_fn", learned), ("value_fn", learned), ("value", learned_outside)}
QUICK |= {("grad_fn in a chain", minimized)}


@pytest.mark.parametrize(
    ("name", "runner"),
    [
        pytest.param(name, runner, marks=[] if (name, runner) in QUICK else pytest.mark.slow)
        for name in ASKING
        for runner in RUNNERS
    ],
)
def test_an_optimizer_ends_where_it_must(name, runner):
    optimizer, gap = ASKING[name]
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        end = runner(optimizer)
    # some roundings a step of numbers up to 2
    np.testing.assert_allclose(end - TARGET, gap, rtol=0, atol=10 * 2 * NUM_STEPS * FLOAT32_EPS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "value_fn" else pytest.mark.slow)
        for name in ASKING
        if name != "second derivatives"  # of the network vanish in places
    ],
)
def test_the_coordinate_check_trains_with_it(name):
    def make(width, key):
        loss_fn = lambda params, x: jnp.mean((mlp.apply(params, x, jnp.tanh) - 1) ** 2)
        return loss_fn, mlp.init(key, (2, width, 1)), ASKING[name][0]

    x = jax.random.normal(jax.random.key(0), (4, 2))
    with jax.numpy_dtype_promotion("standard"):
        check = coordinate_check(make, (2, 4), x, key=jax.random.key(1), steps=2, num_seeds=1)
    assert jnp.all(jnp.isfinite(check.changes) & (check.changes > 0))
