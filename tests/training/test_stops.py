"""`fit` keeps the last finite parameters and says what was not finite, where and when."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import Aux, fit

FLOAT32_EPS = float(np.finfo(np.float32).eps)
STEPS = 6


def poisoned(at, num_examples=STEPS):
    """Numbers of which one, met once an epoch, makes the square root's slope infinite."""
    return jnp.ones(num_examples).at[at].set(0.0)


def run(loss_fn, params, optimizer, data=None, **options):
    data = poisoned(2) if data is None else data
    options = {"num_epochs": 2, "key": jax.random.key(0), "progress": False, **options}
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        return fit(loss_fn, params, optimizer, data, batch_size=1, **options)


def norm_at_zero(params, batch):
    """|v| at v = 0: the loss is finite, its gradient is 0 / 0."""
    v = params["deep"]["v"] * batch
    return 0.5 * (params["w"] - 1) ** 2 + jnp.sqrt(jnp.sum(v**2))


def start():
    return {"deep": {"v": jnp.ones(3)}, "w": jnp.array(0.0)}


def steps_before_the_poison(key, at):
    """The order is that of the documentation."""
    order = jax.random.permutation(jax.random.fold_in(jax.random.split(key)[1], 0), STEPS)
    return int(np.flatnonzero(np.asarray(order) == at)[0])


@pytest.mark.parametrize("steps_per_call", [1, 4])
@pytest.mark.parametrize("has_scores", [False, True])
def test_a_gradient_that_is_not_finite_stops_before_its_update(steps_per_call, has_scores):
    key = jax.random.key(3)
    evaluate = (lambda params: {"loss": params["w"]}) if has_scores else None
    result = run(
        norm_at_zero, start(), optax.adam(0.1), key=key,
        steps_per_call=steps_per_call, evaluate=evaluate,
    )  # fmt: skip
    good = steps_before_the_poison(key, 2)
    assert 0 < good < STEPS - 1
    assert not result.finite
    losses = result.history.steps["loss"]
    assert losses.shape == (good + 1,)
    assert result.message == (
        f"Stopped at a non-finite gradient of 'deep/v' in epoch 1, step {good + 1}, "
        f"where the loss is {losses[-1]:.6g}."
    )
    # by hand: v's gradient is that of its norm, w's that of a parabola
    params, optimizer = start(), optax.adam(0.1)
    state = optimizer.init(params)
    for _ in range(good):
        grads = jax.grad(norm_at_zero)(params, jnp.ones(1))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    for ours, theirs in ((result.params, params), (result.best, params), (result.opt_state, state)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=STEPS * 16 * FLOAT32_EPS),
            ours,
            theirs,
        )


@pytest.mark.parametrize("steps_per_call", [1, 4])
@pytest.mark.parametrize(
    "skipping",
    [
        lambda rule: optax.apply_if_finite(rule, 5),
        lambda rule: optax.MultiSteps(rule, 1, should_skip_update_fn=optax.skip_not_finite),
    ],
    ids=["apply_if_finite", "skip_not_finite"],
)
def test_an_optimizer_may_skip_a_gradient_that_is_not_finite(skipping, steps_per_call):
    result = run(
        norm_at_zero, start(), skipping(optax.sgd(0.1)), num_epochs=3, steps_per_call=steps_per_call
    )
    assert result.finite
    assert result.message == "Finished 3 epochs."
    assert result.history.steps["loss"].shape == (3 * STEPS,)
    # w -> w - 0.1 (w - 1) in all steps but one an epoch
    expected = 1 - 0.9 ** (3 * (STEPS - 1))
    np.testing.assert_allclose(result.params["w"], expected, rtol=3 * STEPS * FLOAT32_EPS)


def test_zeroed_gradients_move_the_other_leaves():
    optimizer = optax.chain(optax.zero_nans(), optax.sgd(0.1))
    result = run(norm_at_zero, start(), optimizer)
    assert result.finite
    np.testing.assert_allclose(
        result.params["w"], 1 - 0.9 ** (2 * STEPS), rtol=2 * STEPS * FLOAT32_EPS
    )


def test_an_optimizer_that_gives_up_skipping_stops():
    optimizer = optax.apply_if_finite(optax.sgd(0.1), 1)
    result = run(norm_at_zero, start(), optimizer, jnp.zeros(STEPS))
    assert "gradient of 'deep/v' in epoch 1, step 2" in result.message
    np.testing.assert_array_equal(result.params["deep"]["v"], 1)  # one skipped, one refused


def test_an_accumulated_nan_stops_where_it_comes_up_and_not_where_it_is_applied():
    result = run(norm_at_zero, start(), optax.MultiSteps(optax.sgd(0.1), 4), num_epochs=1)
    at = steps_before_the_poison(jax.random.key(0), 2)
    assert f"gradient of 'deep/v' in epoch 1, step {at + 1}," in result.message
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.opt_state))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_parameters_that_overflow_stop(dtype):
    rate = 0.75 * float(jnp.finfo(dtype).max)  # twice that is infinite
    loss_fn = lambda params, batch: -jnp.sum(params["w"] * batch)
    params = {"w": jnp.zeros((), dtype)}
    result = run(loss_fn, params, optax.sgd(rate), jnp.ones(STEPS, dtype))
    assert "non-finite update of 'w' in epoch 1, step 2, where the loss is" in result.message
    assert result.params["w"].dtype == dtype
    np.testing.assert_allclose(float(result.params["w"]), rate, rtol=float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("loss_fn", "params", "optimizer", "model_state", "message"),
    [
        (
            lambda p, b: jnp.sum(p["used"] * b) + 0 * jnp.sum(p["idle"]),
            {"used": jnp.ones(()), "idle": jnp.zeros(2)},
            optax.adam(0.1, eps=0.0),  # 0 / 0
            None,
            "Stopped at a non-finite update of 'idle' in epoch 1, step 1, where the loss is 1.",
        ),
        (
            lambda p, _: jnp.sum(p["a"] + p["b"]) * 0 + p["a"][0],
            {"a": jnp.array([0.5, jnp.nan]), "b": jnp.array([jnp.inf])},
            optax.sgd(0.1),
            None,
            "Stopped before the first step: the parameters are not finite at 'a' and 1 more.",
        ),
        (
            lambda p, b, state: (jnp.sum(p * b), Aux(model_state={"var": state["var"] * 1e30})),
            jnp.ones(()),
            optax.sgd(0.0),
            {"var": jnp.ones(2)},
            "Stopped at a non-finite model state at 'var' in epoch 1, step 2, where the loss is 1.",
        ),
        (
            lambda p, _: jnp.abs(p - p) ** 0.5 + 2.0,
            jnp.ones((), jnp.complex64),
            optax.sgd(0.1),
            None,
            "Stopped at a non-finite gradient of '(root)' in epoch 1, step 1, where the loss is 2.",
        ),
        (
            lambda p, b: p / b[0] - p / b[0],
            jnp.ones(()),
            optax.sgd(0.1),
            None,
            "Stopped at a non-finite loss in epoch 1, step 1; it was the first.",
        ),
    ],
    ids=["eps_0", "initial_parameters", "model_state", "complex", "loss"],
)
def test_what_is_not_finite_is_named(loss_fn, params, optimizer, model_state, message):
    data = jnp.zeros(STEPS) if "loss in" in message else jnp.ones(STEPS)
    result = run(loss_fn, params, optimizer, data, model_state=model_state)
    assert result.message == message
    assert not result.finite
    if "before the first" not in message:
        kept = jax.tree.leaves((result.params, result.best, result.model_state))
        assert all(np.isfinite(leaf).all() for leaf in kept)


def test_infinities_on_purpose_do_not_stop():
    """A mask in the model's state, and the best value so far in the optimizer's."""
    loss_fn = lambda w, b, mask: ((w * b[0] - 1) ** 2, Aux(model_state=mask))
    optimizer = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    result = run(
        loss_fn, jnp.zeros(()), optimizer, jnp.ones(STEPS), model_state=jnp.array([-jnp.inf, 0.0])
    )
    assert result.finite


def test_a_poisoned_optimizer_state_is_named():
    optimizer = optax.trace(0.9)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, optimizer.init({"w": jnp.ones(())}))
    result = run(lambda p, b: jnp.sum(p["w"] * b), {"w": jnp.ones(())}, optimizer, opt_state=broken)
    assert "update of 'w' and optimizer state at 'trace/w' in epoch 1, step 1" in result.message
    assert float(result.params["w"]) == 1
