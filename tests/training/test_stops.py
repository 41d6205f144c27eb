"""`fit` keeps the last finite parameters and says what was not finite, where and when."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_tut.training import Aux, History, fit, patience, stops
from jaxopt_tut.training.loop import Loop

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


NAN = float("nan")


class Made(NamedTuple):
    """What an optimizer made by hand remembers: steps, and whatever it started with."""

    count: jax.Array
    more: object


def by_hand(update, more=(), rate=0.1):
    """Build an optimizer whose updates, and more of its state, are `update(count, grads, more)`."""

    def step(grads, state, params=None):
        del params
        grads = jax.tree.map(lambda g: -rate * g, grads)
        grads, more = update(state.count, grads, state.more)
        return grads, Made(state.count + 1, more)

    init = lambda _: Made(jnp.int32(0), jax.tree.map(jnp.float32, more))
    return optax.GradientTransformation(init, step)


def later(value):
    """Put a value in place of another from the third step on."""
    return lambda count, leaf: jnp.where(count >= 2, value, leaf)


def update_of_w(value):
    return lambda count, g, more: ({**g, "w": later(value)(count, g["w"])}, more)


def with_gradients(rule, zeroed):
    """Put zeros in place of NaN in one leaf's gradient before a rule."""
    return optax.chain(optax.masked(optax.zero_nans(), zeroed), rule)


def frozen(rule):
    """Clip by the norm of all gradients, and train `w` alone."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition({"w": rule, "v": optax.set_to_zero()}, {"w": "w", "v": "v"}),
    )


def nan_gradient(params, batch):
    """A finite loss whose gradient of `v` is NaN at every step, and of `w` is 1."""
    return params["w"] * batch[0] + jnp.sqrt(jnp.sum((0 * params["v"]) ** 2))


def linear(params, batch):
    return (params["w"] + jnp.sum(params["v"])) * batch[0]


def growing(loss_fn, at=3):
    """Beside the loss a model state that overflows at a step."""

    def with_state(params, batch, state):
        state = {"mean": state["mean"], "var": state["var"] * 10.0}
        return loss_fn(params, batch), Aux(model_state=state)

    return with_state, {"mean": jnp.zeros(2), "var": jnp.full(2, 5 * 10.0 ** (38 - at), "float32")}


HARMLESS = {"best": NAN}
TWO = {"best": NAN, "scale": NAN}
CAUSES = {
    # a NaN of the initial state is not the cause of what comes later
    "update, infinite": (linear, by_hand(update_of_w(jnp.inf), HARMLESS), 3, "update of 'w'"),
    "update, not a number": (linear, by_hand(update_of_w(NAN), HARMLESS), 3, "update of 'w'"),
    "update at once": (
        linear, by_hand(lambda _, g, more: ({**g, "w": g["w"] / 0}, more), HARMLESS), 1,
        "update of 'w'",
    ),
    "another leaf of the state": (
        linear,
        by_hand(lambda n, g, m: (g, {**m, "new": later(NAN)(n, 0.0)}), {**HARMLESS, "new": 0.0}),
        3, "optimizer state at 'more/new'",
    ),
    "both": (
        linear,
        by_hand(
            lambda n, g, m: (update_of_w(NAN)(n, g, m)[0], {**m, "new": later(NAN)(n, 0.0)}),
            {**HARMLESS, "new": 0.0},
        ),
        3, "update of 'w' and optimizer state at 'more/new'",
    ),
    "model state": (
        growing(linear), by_hand(lambda _, g, more: (g, more), HARMLESS), 3, "model state at 'var'",
    ),
    "model state and update": (
        growing(linear), by_hand(update_of_w(jnp.inf), HARMLESS), 3,
        "model state at 'var' and update of 'w'",
    ),
    "gradient": (
        nan_gradient, by_hand(lambda _, g, more: (g, more), HARMLESS), 1, "gradient of 'v'"
    ),
    # but it may be, at once or when it is used
    "state used later": (
        linear,
        by_hand(lambda n, g, m: ({**g, "w": g["w"] + later(m["scale"])(n, 0.0)}, m), TWO),
        3, "update of 'w' and optimizer state at 'more/scale'",
    ),
    "state used for another leaf of it": (
        linear,
        by_hand(lambda n, g, m: (g, {**m, "new": later(m["scale"])(n, 0.0)}), {**TWO, "new": 0}),
        3, "optimizer state at 'more/new' and 1 more",
    ),
    "states of which one is enough": (
        linear,
        by_hand(lambda n, g, m: ({**g, "w": later(m["best"] + m["scale"])(n, g["w"])}, m), TWO),
        3, "update of 'w' and optimizer state at 'more/best' and 1 more",
    ),
    # a gradient that was skipped is not a cause either
    "skipped, model state": (
        growing(nan_gradient), optax.apply_if_finite(optax.sgd(0.1), 100), 3, "model state at 'var'"
    ),
    "zeroed, model state": (
        growing(nan_gradient), with_gradients(optax.sgd(0.1), {"w": True, "v": True}), 3,
        "model state at 'var'",
    ),
    "zeroed, update": (
        nan_gradient, with_gradients(by_hand(update_of_w(jnp.inf)), {"w": True, "v": True}), 3,
        "update of 'w'",
    ),
    "zeroed, update, with a NaN": (
        nan_gradient,
        with_gradients(by_hand(update_of_w(jnp.inf), HARMLESS), {"w": True, "v": True}), 3,
        "update of 'w'",
    ),
    "zeroed, state": (
        nan_gradient,
        with_gradients(
            by_hand(lambda n, g, _: (g, {"new": later(NAN)(n, 0.0)}), {"new": 0.0}),
            {"w": True, "v": True},
        ),
        3, "optimizer state at '1/more/new'",
    ),
    # one that was not is, whatever else it spoils
    "accumulated": (nan_gradient, optax.MultiSteps(optax.sgd(0.1), 4), 1, "gradient of 'v'"),
    "clipped with the others": (nan_gradient, frozen(optax.sgd(0.1)), 1, "gradient of 'v'"),
    "accumulated, model state": (
        growing(nan_gradient, 1), optax.MultiSteps(optax.sgd(0.1), 4), 1,
        "gradient of 'v' and model state at 'var'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CAUSES)
def test_only_the_cause_is_named(case):
    loss_fn, optimizer, step, found = CAUSES[case]
    loss_fn, model_state = loss_fn if isinstance(loss_fn, tuple) else (loss_fn, None)
    params = {"v": jnp.ones(3), "w": jnp.array(0.0)}
    result = run(
        loss_fn, params, optimizer, jnp.ones(STEPS),
        model_state=model_state, steps_per_call=1 if step == 1 else 4,
    )  # fmt: skip
    loss = result.history.steps["loss"][-1]
    assert result.message == (
        f"Stopped at a non-finite {found} in epoch 1, step {step}, where the loss is {loss:.6g}."
    )
    assert not result.finite
    assert result.history.steps["loss"].shape == (step,)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))


def test_a_state_that_is_nan_all_over_is_named_without_trying_every_leaf(monkeypatch):
    tried = []
    retry = Loop.retry
    monkeypatch.setattr(Loop, "retry", lambda *args: tried.append(1) or retry(*args))
    monkeypatch.setattr(stops, "MOST_TRIALS", 2)
    params = dict.fromkeys("abc", jnp.ones(()))
    optimizer = optax.trace(0.9)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, optimizer.init(params))
    loss_fn = lambda p, b: sum(jax.tree.leaves(p)) * b[0]
    result = run(loss_fn, params, optimizer, jnp.ones(STEPS), opt_state=broken)
    assert result.message == (
        "Stopped at a non-finite update of 'a' and 2 more and optimizer state at 'trace/a' "
        "and 2 more in epoch 1, step 1, where the loss is 3."
    )
    assert len(tried) == 1


def test_an_interrupted_search_for_the_cause_names_what_is_not_finite(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "retry", interrupted)
    params = {"v": jnp.ones(3), "w": jnp.array(0.0)}
    result = run(linear, params, by_hand(update_of_w(jnp.inf), HARMLESS), jnp.ones(STEPS))
    assert "update of 'w' and optimizer state at 'more/best' in epoch 1, step 3" in result.message
    result = run(nan_gradient, params, frozen(optax.sgd(0.1)), jnp.ones(STEPS))
    assert "non-finite gradient of 'v' in epoch 1, step 1" in result.message


def history(train=(), **validation):
    columns = {name: np.asarray(column, float) for name, column in validation.items()}
    length = len(next(iter(columns.values()), np.asarray(train)))
    loss = np.asarray(train, float) if len(train) else np.ones(length)
    return History({"loss": loss}, {"loss": loss}, columns, {})


def stops_at(rule, train=(), **validation):
    """Return the first epoch after which a rule stops, or None."""
    length = len(next(iter(validation.values()), train))
    for epoch in range(1, length + 1):
        seen = {name: column[:epoch] for name, column in validation.items()}
        if rule(history(train[:epoch], **seen)):
            return epoch
    return None


@pytest.mark.parametrize(
    ("rule", "columns", "epoch"),
    [
        (patience(1), {"train": [3, 2, 2]}, 3),
        (patience(2), {"train": [3, 2, 1, 0]}, None),
        (patience(2), {"train": [1, 2, 3]}, 3),
        (patience(2), {"train": [math.nan, math.nan, 1]}, 2),
        (patience(2), {"train": [3, math.nan, 2, math.nan, math.nan]}, 5),
        (patience(2), {"train": [math.inf, math.inf, 1]}, 2),
        (patience(2, 1.0), {"train": [4.0, 3.5, 2.5, 2.25, 1.25]}, None),  # gains add up
        (patience(2, 1.0), {"train": [4.0, 3.5, 3.0]}, 3),
        (patience(1), {"loss": [3, 2, 1], "accuracy": [0.5, 0.5, 0.6]}, 2),
        (patience(1), {"train": [1, 2, 3], "loss": [3, 2, 1]}, None),
        (patience(1), {"loss": [3, 2, 1], "accuracy": [math.nan, 0.5, 0.5]}, None),
        (patience(1, score=lambda m: -m["error"]), {"error": [3, 2, 2]}, 3),
        (patience(np.int64(2), np.float32(0)), {"train": [1, 1, 1]}, 3),
    ],
)  # fmt: skip
def test_patience_waits_for_a_gain(rule, columns, epoch):
    assert stops_at(rule, **columns) == epoch


@given(
    losses=st.lists(st.floats(0, 10, width=16), min_size=1, max_size=12),
    epochs=st.integers(1, 4),
    min_gain=st.sampled_from([0.0, 0.5]),
)
def test_patience_counts_as_a_loop_would(losses, epochs, min_gain):
    best, waited, expected = math.inf, 0, None
    for epoch, loss in enumerate(losses, start=1):
        if loss < best - min_gain:
            best, waited = loss, 0
        else:
            waited += 1
        if waited >= epochs:
            expected = epoch
            break
    assert stops_at(patience(epochs, min_gain), losses) == expected


@pytest.mark.parametrize(("epochs", "said"), [(1, "in 1 epoch,"), (2, "in 2 epochs,")])
def test_patience_counts_its_epochs(epochs, said):
    scores = iter([1.0, 2.0, 2.0, 1.5, 9.0, 9.0])
    result = run(
        lambda w, x: jnp.sum(w * x), jnp.ones(()), optax.sgd(0.1), num_epochs=6,
        evaluate=lambda _: {"accuracy": next(scores)}, stop=patience(epochs),
    )  # fmt: skip
    assert said in result.message


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_fit_stops_as_the_history_says(steps_per_call):
    scores = iter([1.0, 2.0, 2.0, 1.5, 9.0, 9.0])
    result = run(
        lambda w, x: jnp.sum(w * x), jnp.ones(()), optax.sgd(0.1), num_epochs=6,
        evaluate=lambda _: {"accuracy": next(scores)}, stop=patience(2),
        steps_per_call=steps_per_call,
    )  # fmt: skip
    assert result.history.validation["accuracy"].tolist() == [1.0, 2.0, 2.0, 1.5]
    assert result.history.steps["loss"].size == 4 * STEPS
    assert (result.best_epoch, result.finite) == (2, True)
    assert result.message == (
        "Stopped after epoch 4: the score did not rise in 2 epochs, best was 2 after epoch 2."
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (True, "Stopped after epoch 1: stop returned True."),
        (np.bool_(True), "Stopped after epoch 1: stop returned True."),
        ("it is late.", "Stopped after epoch 1: it is late."),
        (None, "Finished 2 epochs."),
        ("", "Finished 2 epochs."),
        (np.bool_(False), "Finished 2 epochs."),
    ],
)
def test_any_function_of_the_history_stops(answer, message):
    loss_fn = lambda w, x: jnp.sum(w * x)
    assert run(loss_fn, jnp.ones(()), optax.sgd(0.1), stop=lambda _: answer).message == message


@pytest.mark.parametrize(
    ("stop", "error", "message"),
    [
        (4, TypeError, "fit needs a function as stop, got int: patience"),
        (lambda: True, TypeError, r"fit calls stop\(history\), got one of \(\)"),
        (lambda _: 3, TypeError, "fit needs stop to return a truth value .*, got int"),
        (patience, TypeError, r"fit needs patience\(epochs\) as stop, got patience itself\."),
        (patience(1, score=lambda _: "x"), TypeError, "patience needs score to return a number"),
    ],
    ids=["number", "no argument", "an integer", "not called", "a score of text"],
)
def test_what_cannot_stop_is_refused(stop, error, message):
    with pytest.raises(error, match=message):
        run(lambda w, x: jnp.sum(w * x), jnp.ones(()), optax.sgd(0.1), stop=stop)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((0,), ValueError, "patience needs epochs >= 1, got epochs=0"),
        ((2.0,), TypeError, "patience needs an integer epochs, got epochs=2.0"),
        ((2, -1.0), ValueError, "patience needs 0 <= min_gain < inf, got min_gain=-1.0"),
        ((2, math.nan), ValueError, "patience needs 0 <= min_gain < inf, got min_gain=nan"),
    ],
)
def test_patience_refuses_bad_numbers(args, error, message):
    with pytest.raises(error, match=message):
        patience(*args)
