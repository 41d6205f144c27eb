"""`fit` hands every optimizer what it asks for, on the batch of the step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.optimizers import line_search
from jaxopt_tut.training import Aux, fit

FLOAT32_EPS = float(np.finfo(np.float32).eps)
BATCH_SIZE, NUM_EPOCHS = 8, 4


def data():
    x = jax.random.normal(jax.random.key(1), (24, 3))
    noise = 0.1 * jax.random.normal(jax.random.key(2), (24,))
    return x, jnp.tanh(x @ jnp.array([1.0, -2.0, 0.5]) + 0.25) + noise


def squared_error(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["kernel"] + params["bias"]) - y) ** 2)


def start():
    return {"kernel": jnp.array([0.2, -0.3, 0.1]), "bias": jnp.array(0.1)}


def nothing(loss, params):
    del loss, params
    return {}


def value(loss, params):
    return {"value": loss(params)}


def search(loss, params):
    return {"value": loss(params), "grad": jax.grad(loss)(params), "value_fn": loss}


def grad_fn(loss, params):
    del params
    return {"grad_fn": lambda params, _: jax.grad(loss)(params)}


def obj_fn(loss, params):
    del params
    return {"obj_fn": loss}


def searched(rule):
    return optax.chain(optimizers.sgd(1.0), rule)


def sharpness_aware(**options):
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    return optax.contrib.sam(optimizers.sgd(0.3), climb, **options)


# what each asks for, as its documentation has it
CASES = {
    "polyak": (optax.polyak_sgd(), value),
    "accumulated polyak": (optax.MultiSteps(optax.polyak_sgd(), 2), value),
    "sam": (sharpness_aware(), nothing),
    "opaque sam": (sharpness_aware(opaque_mode=True), grad_fn),
    "clipped opaque sam": (
        optax.chain(optax.clip(1.0), sharpness_aware(opaque_mode=True)),
        grad_fn,
    ),
    "zoom": (searched(optax.scale_by_zoom_linesearch(10)), search),
    "wolfe": (searched(line_search.wolfe()), search),
    "sophia": (optax.contrib.sophia(0.05), obj_fn),
}
SLOW_CASES = {
    "optax lbfgs": (optax.lbfgs(), search),
    "backtracking": (searched(optax.scale_by_backtracking_linesearch(10)), search),
    "backtracking that keeps gradients": (
        searched(optax.scale_by_backtracking_linesearch(10, store_grad=True)),
        search,
    ),
    "momo": (optax.contrib.momo(0.5), value),
    "momo adam": (optax.contrib.momo_adam(0.1), value),
    "plateau": (optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau()), value),
    "schedule free": (optax.contrib.schedule_free_sgd(0.3), nothing),
    "schedule free search": (
        optax.contrib.schedule_free(searched(line_search.armijo()), 1.0),
        search,
    ),
    "prodigy": (optax.contrib.prodigy(1.0, estim_lr0=0.1), nothing),
    "dog": (optax.contrib.dog(1.0, init_step=("heuristic", 0.01)), nothing),
    "mechanic": (optax.contrib.mechanize(optax.adam(1.0), s_init=0.1), nothing),
    "finite polyak": (optax.apply_if_finite(optax.polyak_sgd(), 3), value),
    "armijo": (searched(line_search.armijo()), search),
    "exact": (searched(line_search.exact()), search),
    "bfgs": (optimizers.bfgs(), search),
    "lbfgs": (optimizers.lbfgs(), search),
    "newton": (optimizers.newton(damping=0.1), search),
    "newton cg": (optimizers.newton_cg(), search),
    "trust region": (optimizers.trust_region(), search),
    "nonlinear cg": (optimizers.nonlinear_cg(), search),
}
PARAMETERS = [
    *(pytest.param(*case, id=name) for name, case in CASES.items()),
    *(pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in SLOW_CASES.items()),
]


@pytest.mark.parametrize(("optimizer", "extra_args"), PARAMETERS)
def test_equals_the_loop_that_hands_over_what_the_optimizer_documents(optimizer, extra_args):
    key = jax.random.key(0)

    @jax.jit
    def by_hand(params, batches):
        def one_step(carry, batch):
            params, state = carry
            loss = lambda params: squared_error(params, batch)
            updates, state = optimizer.update(
                jax.grad(loss)(params), state, params, **extra_args(loss, params)
            )
            return (optax.apply_updates(params, updates), state), loss(params)

        return jax.lax.scan(one_step, (params, optimizer.init(params)), batches)

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        result = fit(
            squared_error,
            start(),
            optimizer,
            data(),
            batch_size=BATCH_SIZE,
            num_epochs=NUM_EPOCHS,
            key=key,
        )
        shuffle_key = jax.random.split(key)[1]
        orders = [
            jax.random.permutation(jax.random.fold_in(shuffle_key, epoch), 24)
            for epoch in range(NUM_EPOCHS)
        ]
        order = jnp.concatenate(orders).reshape(-1, BATCH_SIZE)
        batches = jax.tree.map(lambda leaf: leaf[order], data())
        (params, _), losses = by_hand(start(), batches)
    # two programs: some roundings a step, which a hundred times as many may grow to
    tolerance = 100 * len(losses) * FLOAT32_EPS
    np.testing.assert_allclose(result.history.steps["loss"], losses, rtol=tolerance)
    for name, leaf in result.params.items():
        np.testing.assert_allclose(leaf, params[name], rtol=tolerance, atol=tolerance)
    assert result.history.train["loss"][-1] < 0.8 * result.history.train["loss"][0]


@pytest.mark.parametrize("optimizer", [optimizers.gauss_newton(), optimizers.levenberg_marquardt()])
def test_least_squares_do_not_belong_in_fit(optimizer):
    with pytest.raises(
        ValueError,
        match=r"^fit hands over value, grad, value_fn, grad_fn and obj_fn; the optimizer asks for "
        r"'residual_fn': sums of squares belong in minimize\(\.\.\., residual_fn=\.\.\.\)\.",
    ):
        train(optimizer)


def test_an_unknown_argument_is_named():
    def update(updates, state, _=None, *, labels):
        return jax.tree.map(lambda u: labels * u, updates), state

    with pytest.raises(
        TypeError, match=r"^fit hands over value, .*; the optimizer asks for 'labels'"
    ):
        train(optax.GradientTransformationExtraArgs(lambda _: (), update))


def train(optimizer, loss_fn=squared_error, params=None, **options):
    options = {"num_epochs": 1, "key": jax.random.key(0), **options}
    params = start() if params is None else params
    return fit(loss_fn, params, optimizer, data(), batch_size=BATCH_SIZE, **options)


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_a_search_sees_the_models_state_of_its_step(steps_per_call):
    """The state shifts the target: a search for another one would end elsewhere."""

    def loss_fn(w, batch, shift):
        return jnp.mean((w - shift) ** 2 + 0 * batch[1]), Aux(model_state=shift + 1)

    # on a parabola Newton's step, and so the search along it, ends at the minimum
    optimizer = optimizers.newton(line_search=line_search.wolfe())
    result = train(
        optimizer,
        loss_fn,
        jnp.array(0.0),
        model_state=jnp.array(5.0),
        steps_per_call=steps_per_call,
    )
    assert result.params == 7  # the third step's
    assert result.model_state == 8


def test_the_callers_and_the_optimizers_copies_survive_donation():
    # the state of each holds the parameters themselves
    for optimizer in (sharpness_aware(), optax.contrib.schedule_free_sgd(0.1)):
        params = start()
        with jax.numpy_dtype_promotion("standard"):
            train(optimizer, params=params)
            train(optimizer, params=lambda key: start())  # noqa: ARG005
        np.testing.assert_array_equal(params["kernel"], start()["kernel"])


def test_lookahead_trains_a_pair():
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies flags and numbers
        result = train(
            optax.lookahead(optax.sgd(0.3), 3, 0.5),
            lambda pair, batch: squared_error(pair.fast, batch),
            optax.LookaheadParams.init_synced(start()),
            num_epochs=NUM_EPOCHS,
        )
    # it has just come back half-way, after twelve steps
    for slow, fast in zip(*map(jax.tree.leaves, result.params), strict=True):
        np.testing.assert_allclose(slow, fast, rtol=4 * FLOAT32_EPS)
    assert result.history.train["loss"][-1] < 0.8 * result.history.train["loss"][0]


def test_lookahead_asks_for_its_pair():
    with pytest.raises(TypeError, match=r"^fit needs optax.LookaheadParams.init_synced\(params\)"):
        train(optax.lookahead(optax.sgd(0.3), 3, 0.5))
