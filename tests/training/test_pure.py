"""`train` is `fit` as one pure function: same numbers, any transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Aux, fit, shuffled, train
from jaxopt_tut.training.data import device_data, epoch_order, num_examples

FLOAT32_EPS = float(np.finfo(np.float32).eps)


def distance(w, batch):
    return (w - batch) ** 2


def dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28), np.uint8)
    split = Split(images, rng.integers(0, 10, 40).astype(np.int32))
    return Dataset(split, split, 0.5, 0.29)


def cross_entropy(params, batch):
    logits = mlp.apply(params, batch.images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    return jnp.mean(losses), {"right": jnp.mean(jnp.argmax(logits, axis=1) == batch.labels)}


def test_takes_the_steps_of_fit():
    key, params = jax.random.key(3), mlp.init(jax.random.key(1), (784, 8, 10))
    optimizer = optimizers.momentum(0.1)
    by_fit = fit(
        cross_entropy, params, optimizer, dataset(), batch_size=16, num_epochs=3, key=key,
        progress=False,
    )  # fmt: skip
    batches = shuffled(dataset(), batch_size=16, num_epochs=3, key=key)
    trained = jax.jit(lambda b: train(cross_entropy, params, optimizer, b, num_steps=6))(batches)
    # Two programs of the same sums: they differ by the order of 784 products, six steps long.
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=100 * FLOAT32_EPS, atol=1e-6)
    jax.tree.map(close, trained.params, by_fit.params)
    jax.tree.map(close, trained.opt_state, by_fit.opt_state)
    close(trained.losses, by_fit.history.steps["loss"])
    np.testing.assert_array_equal(trained.metrics["right"], by_fit.history.steps["right"])
    assert bool(trained.finite)
    assert int(trained.num_taken) == 6


def test_shuffled_gives_the_batches_of_fit_to_the_bit():
    key, data = jax.random.key(5), jnp.arange(40.0)
    batches = shuffled(data, batch_size=12, num_epochs=2, key=key)
    seen = []
    fit(
        lambda params, batch: params * (jax.debug.callback(seen.append, batch) or 1.0),
        jnp.array(1.0), optax.sgd(0.0), data, batch_size=12, num_epochs=2, key=key,
        progress=False,
    )  # fmt: skip
    jax.effects_barrier()
    ours = {tuple(batches(step).tolist()) for step in range(6)}
    assert ours == {tuple(batch.tolist()) for batch in seen}
    data, shuffle_key = device_data(dataset(), "test"), jax.random.split(key)[1]
    orders = [
        epoch_order(shuffle_key, np.uint32(epoch), num_examples(data), 12) for epoch in (0, 1)
    ]
    np.testing.assert_array_equal(batches.order, np.concatenate(orders))
    np.testing.assert_array_equal(batches(7), batches(1))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("guarded", [True, False])
def test_derivative_through_the_rate_is_that_of_the_closed_form(guarded):
    # w_T - b = (1 - 2 rate)^T (w_0 - b), so the last loss is 9 (1 - 2 rate)^(2 T)
    def last(rate):
        options = {"num_steps": 4, "guarded": guarded}
        after = train(distance, 0.0, optimizers.sgd(rate), jnp.array([3.0]), **options)
        return (after.params - 3.0) ** 2

    value, slope = jax.jit(jax.value_and_grad(last))(0.2)
    np.testing.assert_allclose(value, 9 * 0.6**8, rtol=1e-14)
    np.testing.assert_allclose(slope, -9 * 16 * 0.6**7, rtol=1e-14)
    np.testing.assert_allclose(jax.jvp(last, (0.2,), (1.0,))[1], slope, rtol=1e-14)


def test_lanes_of_a_map_are_single_runs():
    run = lambda rate: train(distance, 0.0, optimizers.adam(rate), jnp.arange(3.0), num_steps=7)
    together, rates = jax.vmap(run)(jnp.array([0.1, 0.5])), (0.1, 0.5)
    for lane, rate in enumerate(rates):
        alone = run(rate)
        np.testing.assert_allclose(together.losses[lane], alone.losses, rtol=20 * FLOAT32_EPS)


@pytest.mark.parametrize("batches", [
    jnp.arange(4.0), lambda step: jnp.float32(step % 4), np.arange(4, dtype=np.float32),
])  # fmt: skip
def test_batches_of_a_tree_come_round(batches):
    # a rate of 0.5 goes to the batch's number at once
    after = train(distance, 0.0, optax.sgd(0.5), batches, num_steps=6)
    np.testing.assert_array_equal(after.losses, [0.0, 1.0, 1.0, 1.0, 9.0, 1.0])
    assert float(after.params) == 1.0


def test_stops_before_the_step_that_is_not_finite_as_fit_does():
    root = lambda w, batch: jnp.sqrt(w) * jnp.mean(batch)  # the gradient at 0 is infinite
    data = jnp.array([1.0, 2.0, 2.0])
    after = train(root, 0.25, optax.sgd(0.25), data, num_steps=3)
    by_fit = fit(root, jnp.array(0.25), optax.sgd(0.25), jnp.array([1.0]), batch_size=1,
                 num_epochs=3, key=jax.random.key(0), progress=False)  # fmt: skip
    assert not after.finite
    assert not by_fit.finite
    assert float(after.params) == float(by_fit.params) == 0.0
    np.testing.assert_array_equal(after.losses, [0.5, 0.0, np.nan])
    np.testing.assert_array_equal(by_fit.history.steps["loss"], [0.5, 0.0])
    assert int(after.num_taken) == 1
    unguarded = train(root, 0.25, optax.sgd(0.25), data, num_steps=3, guarded=False)
    assert not unguarded.finite
    assert not np.isfinite(unguarded.params)
    spoilt = train(root, jnp.nan, optax.sgd(0.25), data, num_steps=3)
    assert int(spoilt.num_taken) == 0


def test_state_of_the_model_and_of_the_optimizer_go_through():
    def loss_fn(w, batch, count):
        return (w - batch) ** 2, Aux({"count": count}, count + 1)

    options = {"num_steps": 2, "model_state": 10}
    first = train(loss_fn, 0.0, optimizers.momentum(0.1), jnp.array([1.0]), **options)
    assert int(first.model_state) == 12
    np.testing.assert_array_equal(first.metrics["count"], [10, 11])
    then = train(loss_fn, first.params, optimizers.momentum(0.1), jnp.array([1.0]), num_steps=2,
                 model_state=first.model_state, opt_state=first.opt_state)  # fmt: skip
    whole = train(loss_fn, 0.0, optimizers.momentum(0.1), jnp.array([1.0]), num_steps=4,
                  model_state=10)  # fmt: skip
    assert float(then.params) == float(whole.params)
    np.testing.assert_array_equal(whole.losses[2:], then.losses)


@pytest.mark.parametrize("params", [{"a": None, "w": jnp.zeros(3), "empty": jnp.zeros((0, 2))}])
def test_line_searches_and_trees_with_empty_leaves_pass(params):
    target = jnp.array([1.0, -1.0, 2.0])
    loss_fn = lambda params, batch: jnp.sum(batch * (params["w"] - target) ** 2)
    after = train(loss_fn, params, optimizers.lbfgs(), jnp.array([[1.0, 2.0, 3.0]]), num_steps=8)
    np.testing.assert_allclose(after.params["w"], target, rtol=1e-5)  # gradients vanish to 1e-6
    assert after.params["a"] is None
    assert train(loss_fn, params, optax.sgd(0.1), jnp.ones((1, 3)), num_steps=0).losses.shape == (
        0,
    )


@pytest.mark.parametrize(("options", "sentence"), [
    ({"num_steps": -1}, r"train needs num_steps >= 0, got num_steps=-1\."),
    ({"num_steps": 2.0}, r"train needs an integer num_steps, got num_steps=2\.0\."),
    ({"batches": (jnp.ones(3), jnp.ones(4))},
     r"train needs batches with a common first axis, the steps, got \(3,\) at '0' and \(4,\)"),
    ({"batches": jnp.ones((0, 3))}, r"first axis, the steps, got \(0,\)"),
    ({"batches": jnp.float32(1.0)}, r"first axis, the steps, got \(\)"),
    ({"batches": lambda: 1.0}, r"train calls batches\(step\), got one of \(\)"),
    ({"optimizer": optax.sgd}, r"train needs "),
    ({"params": jnp.arange(3)}, r"needs floating or complex parameters, got int32"),
])  # fmt: skip
def test_refuses_what_it_cannot_take(options, sentence):
    given = {"params": 0.0, "optimizer": optax.sgd(0.1), "batches": jnp.ones(2), "num_steps": 2}
    given |= options
    with pytest.raises((TypeError, ValueError), match=sentence):
        train(distance, **given)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"batch_size": 7}, r"shuffled needs 1 <= batch_size <= number of examples \(6\), got batch"),
    ({"num_epochs": 0}, r"shuffled needs num_epochs >= 1, got num_epochs=0\."),
    ({"batch_size": 2.0}, r"shuffled needs an integer batch_size"),
])  # fmt: skip
def test_shuffled_refuses_counts_out_of_range(options, sentence):
    given = {"batch_size": 2, "num_epochs": 1, "key": jax.random.key(0), **options}
    with pytest.raises((TypeError, ValueError), match=sentence):
        shuffled(jnp.arange(6.0), **given)


def test_a_state_that_does_not_fit_is_refused_and_one_from_a_file_is_taken():
    rows = jnp.ones((4, 2))
    loss_fn = lambda w, row: jnp.sum((w - row) ** 2)
    go_on = lambda state, optimizer: train(
        loss_fn, jnp.zeros(2), optimizer, rows, num_steps=2, opt_state=state
    )
    momentum, adam = optax.sgd(0.1, momentum=0.9), optax.adam(0.1)
    for state, optimizer in (
        (3, momentum), (3, optax.sgd(0.1)), ("a", adam), (optax.sgd(0.1).init(jnp.zeros(2)), adam),
        (adam.init(jnp.zeros(3)), adam), (adam.init(jnp.zeros(2, jnp.float16)), adam),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"^train needs the opt_state of its optimizer, got"):
            go_on(state, optimizer)
    first = go_on(None, momentum).opt_state
    whole = go_on(first, momentum).params
    read = (jax.tree.map(np.asarray, first[0]._asdict()), ())
    np.testing.assert_array_equal(go_on(read, momentum).params, whole)
    # inside a transformation, too
    each = jax.vmap(lambda state: go_on(state, momentum).params)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), first)
    np.testing.assert_array_equal(each(stacked), jnp.stack([whole, whole]))
