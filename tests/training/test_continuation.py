"""Training goes on from an optimizer's state as if it had never stopped."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import fit

FLOAT32_EPS = float(np.finfo(np.float32).eps)
SIZE, BATCH = 12, 4


def data():
    x = jax.random.normal(jax.random.key(1), (SIZE, 2))
    return x, x @ jnp.array([1.0, -2.0])


def loss_fn(params, batch):
    return jnp.mean((batch[0] @ params["w"] + params["b"] - batch[1]) ** 2)


def start():
    return {"b": jnp.zeros(()), "w": jnp.zeros(2)}


def run(params, optimizer, key, num_epochs, **options):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        return fit(
            loss_fn, params, optimizer, data(), batch_size=BATCH, num_epochs=num_epochs,
            key=key, progress=False, **options,
        )  # fmt: skip


@pytest.mark.parametrize(
    "optimizer",
    [optax.adam(0.1), optax.sgd(optax.exponential_decay(0.1, 1, 0.9), momentum=0.9)],
    ids=["adam", "momentum_and_schedule"],
)
def test_two_runs_are_one_with_the_orders_of_both(optimizer):
    keys = [jax.random.key(0), jax.random.key(7)]
    first = run(start(), optimizer, keys[0], 2)
    second = run(first.params, optimizer, keys[1], 3, opt_state=first.opt_state)
    params, state = start(), optimizer.init(start())
    for key, num_epochs in zip(keys, (2, 3), strict=True):
        for epoch in range(num_epochs):
            shuffle_key = jax.random.fold_in(jax.random.split(key)[1], epoch)
            for index in jax.random.permutation(shuffle_key, SIZE).reshape(-1, BATCH):
                grads = jax.grad(loss_fn)(params, [part[index] for part in data()])
                with jax.numpy_dtype_promotion("standard"):
                    updates, state = optimizer.update(grads, state, params)
                params = optax.apply_updates(params, updates)
    # fifteen steps of a few roundings each; a fresh state is off by some percent
    for ours, theirs in ((second.params, params), (second.opt_state, state)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=64 * FLOAT32_EPS),
            ours,
            theirs,
        )
    fresh = run(first.params, optimizer, keys[1], 3)
    assert np.abs(fresh.params["w"] - params["w"]).max() > 1e-3


def test_the_callers_state_survives_and_may_come_from_a_file():
    optimizer = optax.adam(0.1)
    first = run(start(), optimizer, jax.random.key(0), 1)
    adam_state = first.opt_state[0]
    read = ({"count": np.asarray(adam_state.count), "mu": adam_state.mu, "nu": adam_state.nu}, ())
    results = [
        run(first.params, optimizer, jax.random.key(1), 1, opt_state=state)
        for state in (first.opt_state, read, first.opt_state)
    ]
    for result in results:
        assert jax.tree.structure(result.opt_state) == jax.tree.structure(first.opt_state)
        np.testing.assert_array_equal(result.params["w"], results[0].params["w"])


@pytest.mark.parametrize(
    ("opt_state", "sentence"),
    [
        (optax.sgd(0.1).init(start()), "got '(no leaf)' for '0/count': it belongs to another"),
        (start(), "got 'b' for '0/count': it belongs to another optimizer or to other parameters."),
        (optax.adam(0.1).init({"b": 0.0}), "got '0/nu/b' for '0/mu/w'"),
        (
            optax.adam(0.1).init({"b": jnp.zeros(()), "w": jnp.zeros(3)}),
            "got float32[3] for float32[2] at '0/mu/w'",
        ),
        (
            optax.adam(0.1).init(jax.tree.map(lambda leaf: leaf.astype("float16"), start())),
            "got float16[] for float32[] at '0/mu/b'",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused(opt_state, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(start(), optax.adam(0.1), jax.random.key(0), 1, opt_state=opt_state)
