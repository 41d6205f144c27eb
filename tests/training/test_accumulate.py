"""Micro-batches make the update of the whole batch, in the memory of one of them."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut import optimizers
from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.training import Aux, fit, fitting, steps
from jaxopt_tut.training.accumulation import nothing_yet
from jaxopt_tut.training.data import Resident, device_data

FLOAT32_EPS = float(np.finfo(np.float32).eps)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5], np.float32) + 0.25).astype(np.float32)


def regression(params, batch):
    x, y = batch
    residual = jnp.tanh(x @ params["w"]) + params["b"] - y
    loss = jnp.mean(residual**2)
    return loss, {"size": jnp.mean(jnp.abs(residual))}


def start():
    return {"w": jnp.full(3, 0.1), "b": jnp.array(0.0), "none": None}


def run(loss_fn=regression, optimizer=None, params=None, data=(X, Y), **options):
    optimizer = optimizers.adam(0.05) if optimizer is None else optimizer
    options = {"batch_size": 12, "num_epochs": 2, "key": jax.random.key(1), **options}
    params = start() if params is None else params
    return fit(loss_fn, params, optimizer, data, progress=False, **options)


def assert_close(result, expected, rtol=1e-6):
    """To 1e-6 of the largest number of a leaf: means are rounded in another order."""
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max())


@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize("accumulate", [2, 12])
def test_equals_the_whole_batch(accumulate, steps_per_call):
    whole = run()
    parts = run(accumulate=accumulate, steps_per_call=steps_per_call)
    # Four steps of Adam: its first divides by roots, which magnifies a rounding by 1 / eps there
    # only where a gradient is as small as eps.
    assert_close(parts.params, whole.params)
    assert_close(parts.history.steps, whole.history.steps)
    assert parts.history.steps.keys() == {"loss", "size"}


def test_one_dispatch_or_one_for_each_are_the_same():
    one, many = (run(accumulate=4, steps_per_call=n) for n in (1, 2))
    assert_close(one.params, many.params, 4 * FLOAT32_EPS)


@settings(max_examples=15, deadline=None)
@given(
    accumulate=st.sampled_from([1, 2, 3, 6]),
    num_epochs=st.integers(0, 2),
    steps_per_call=st.sampled_from([None, 2]),
)
def test_equals_a_loop_over_consecutive_micro_batches(accumulate, num_epochs, steps_per_call):
    """Of a loss with state, which sees every micro-batch once and in order, and a key for each."""

    def loss_fn(params, batch, key, state):
        x, y = batch
        noise = jax.random.normal(key)
        loss = jnp.mean((params * x[:, 0] - y + 0.1 * noise) ** 2) + 0.01 * state["mean"] * params
        state = {"mean": 0.5 * state["mean"] + jnp.mean(x), "seen": state["seen"] + 1}
        return loss, Aux({"noise": noise}, state)

    key = jax.random.key(5)
    state = {"mean": jnp.array(0.0), "seen": jnp.array(0)}
    result = run(
        loss_fn, optax.sgd(0.1), jnp.array(0.5), batch_size=6, key=key, num_epochs=num_epochs,
        accumulate=accumulate, steps_per_call=steps_per_call, model_state=state,
    )  # fmt: skip
    params, losses, drawn = jnp.array(0.5), [], []
    draw = keys_of_steps(key, accumulate)
    for epoch in range(num_epochs):
        order = jax.random.permutation(jax.random.fold_in(jax.random.split(key)[1], epoch), 24)
        for batch in order.reshape(4, accumulate, -1):
            seen = []
            for index in batch:
                value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
                (loss, aux), grad = value_and_grad(params, (X[index], Y[index]), next(draw), state)
                state = aux.model_state
                seen.append((loss, grad, aux.metrics["noise"]))
            loss, grad, noise = (
                np.mean(column, dtype=np.float64) for column in zip(*seen, strict=True)
            )
            params = params - jnp.float32(0.1 * grad)
            losses.append(loss)
            drawn.append(noise)
    assert int(result.model_state["seen"]) == num_epochs * 4 * accumulate == int(state["seen"])
    # the losses are of size 1; a step in float32 rounds some ten times, and 8 steps follow
    np.testing.assert_allclose(result.history.steps["loss"], losses, rtol=100 * FLOAT32_EPS)
    np.testing.assert_allclose(result.history.steps["noise"], drawn, atol=10 * FLOAT32_EPS)
    np.testing.assert_allclose(result.params, params, rtol=100 * FLOAT32_EPS)
    np.testing.assert_allclose(result.model_state["mean"], state["mean"], rtol=1e-5)


def keys_of_steps(key, accumulate):
    """Those of the whole run, of the micro-batches one after the other."""
    of_run = jax.random.fold_in(key, fitting.LOSS)
    for step in itertools.count():
        of_step = jax.random.fold_in(of_run, step)
        for index in range(accumulate):
            yield of_step if accumulate == 1 else jax.random.fold_in(of_step, index)


@pytest.mark.parametrize("steps_per_call", [1, 2])
@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.nonlinear_cg(),
        optax.lbfgs(memory_size=3),
        optax.polyak_sgd(),
        optax.chain(optimizers.sgd(0.5), optimizers.line_search.armijo()),
    ],
    ids=["nonlinear_cg", "lbfgs", "polyak_sgd", "armijo"],
)
def test_a_search_sees_the_loss_of_the_whole_batch(optimizer, steps_per_call):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        options = {"steps_per_call": steps_per_call, "num_epochs": 1, "optimizer": optimizer}
        whole, parts = run(**options), run(accumulate=3, **options)
    # Two steps; a search ends where its condition holds, on a curve known to a rounding of 1e-7,
    # whose minimum is known to the root of that at worst and here is not met.
    assert_close(parts.params, whole.params, 1e-5)
    assert_close(parts.history.steps, whole.history.steps, 1e-5)


def test_a_search_threads_the_state_as_the_steps_do():
    """The mean loss of micro-batches depends on it: each is weighed by how many came before."""

    def loss_fn(w, x, count):
        return (1 + count) * jnp.mean((w - x) ** 2), Aux(model_state=count + 1)

    optimizer = optax.chain(optimizers.sgd(0.5), optimizers.line_search.exact())
    result = run(
        loss_fn, optimizer, jnp.array(0.0), jnp.array([3.0, 3.0, 6.0, 6.0]), batch_size=4,
        num_epochs=1, accumulate=4, model_state=jnp.array(0.0), key=jax.random.key(2),
    )  # fmt: skip
    order = jax.random.permutation(jax.random.fold_in(jax.random.split(jax.random.key(2))[1], 0), 4)
    weights, x = np.arange(1.0, 5.0), np.array([3.0, 3.0, 6.0, 6.0])[np.asarray(order)]
    # the minimum of the weighed squares, which an exact search finds to the root of epsilon
    np.testing.assert_allclose(result.params, weights @ x / weights.sum(), rtol=FLOAT32_EPS**0.5)
    assert float(result.model_state) == 4


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_halves_are_summed_in_single_precision(steps_per_call):
    """In bfloat16 a sum of ones ends at 256."""
    w = jnp.zeros((), jnp.bfloat16)
    loss_fn = lambda w, x: jnp.mean(w * x)
    result = run(
        loss_fn, optax.sgd(1.0), w, jnp.ones(512, jnp.bfloat16), batch_size=512, num_epochs=1,
        accumulate=512, steps_per_call=steps_per_call,
    )  # fmt: skip
    assert result.params.dtype == jnp.bfloat16
    assert float(result.params) == -1.0


def test_doubles_and_complex_numbers_equal_the_whole_batch():
    with jax.enable_x64(True):
        loss_fn = lambda z, x: jnp.mean(jnp.abs(z * x - (1 + 2j)) ** 2)
        data = np.linspace(1.0, 2.0, 12).astype(complex)
        options = {"params": jnp.array(0.5 - 0.5j), "data": data, "optimizer": optax.sgd(0.05)}
        whole, parts = run(loss_fn, **options), run(loss_fn, accumulate=4, **options)
        assert parts.params.dtype == np.complex128
        assert parts.history.steps["loss"].dtype == np.float64
        np.testing.assert_allclose(parts.params, whole.params, rtol=1e-14)
        # descent: the loss of 1 and 2j above falls
        assert parts.history.steps["loss"][-1] < parts.history.steps["loss"][0]


def test_images_are_normalised_in_parts_as_in_one():
    images = RNG.integers(0, 256, (16, 28, 28), np.uint8)
    split = Split(images, RNG.integers(0, 10, 16).astype(np.int32))
    loss_fn = lambda w, batch: jnp.mean(
        (w * batch.images - batch.labels[:, None, None].astype(jnp.float32)) ** 2
    )
    options = {"params": jnp.array(1.0), "data": Dataset(split, split, 0.5, 0.25), "batch_size": 8}
    whole, parts = run(loss_fn, **options), run(loss_fn, accumulate=2, **options)
    assert_close(parts.params, whole.params)


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_micro_batch_that_is_not_finite_stops_the_step(steps_per_call):
    x = jnp.ones(8).at[3].set(0.0)
    for loss_fn, what in (
        (lambda w, x: jnp.mean(w / x), "loss"),
        (lambda w, x: jnp.mean(jnp.sqrt(w * x)), "gradient of '(root)'"),
    ):
        result = run(
            loss_fn, optimizers.sgd(0.01), jnp.array(1.0), x, batch_size=4, accumulate=4,
            steps_per_call=steps_per_call,
        )  # fmt: skip
        assert not result.finite
        assert f"Stopped at a non-finite {what}" in result.message
        assert np.isfinite(result.params)


def test_a_program_has_the_memory_of_one_micro_batch():
    """Of activations that are far larger than parameters and batch."""

    def loss_fn(w, x):
        h = jnp.sin(x[:, None] * jnp.linspace(0.0, 1.0, 4096) * w)
        for _ in range(4):
            h = jnp.sin(h * w)
        return jnp.mean(h)

    data, optimizer, w = device_data(jnp.ones(256), "fit"), optimizers.sgd(0.1), jnp.array(1.0)
    carry = steps.initial_carry(w, optimizer.init(w), None)
    carry = carry._replace(record={"loss": jnp.zeros(1)})
    window = next(Resident(data, jax.random.key(0), 256).windows(0, (0, 1)))
    loss = {"loss_fn": loss_fn, "has_model_state": False}

    def memory(program, *args, **options):
        compiled = program.lower(*args, **loss, **options).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    run_steps = partial(
        memory, steps.run_steps, carry, window, np.int32(1),
        optimizer=optimizer, one_step_per_call=True,
    )  # fmt: skip
    whole = run_steps()
    assert whole > 256 * 4096 * 4  # an activation at least
    assert run_steps(accumulate=16) < whole / 8
    total = nothing_yet(carry.params, carry.model_state, carry.record)
    part = memory(steps.add_micro_batch, total, carry, window, np.int32(0), accumulate=16)
    assert part < whole / 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"accumulate": 0}, ValueError, "fit needs accumulate >= 1, got accumulate=0"),
        ({"accumulate": 2.0}, TypeError, "fit needs an integer accumulate, got accumulate=2.0"),
        (
            {"accumulate": 5},
            ValueError,
            r"fit needs a batch_size divisible by accumulate \(5\), got batch_size=12",
        ),
        ({"accumulate": 24}, ValueError, r"divisible by accumulate \(24\), got batch_size=12"),
        (
            {"accumulate": None},
            TypeError,
            "fit needs an integer accumulate, got accumulate=None",
        ),
    ],
)
def test_what_does_not_divide_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)
