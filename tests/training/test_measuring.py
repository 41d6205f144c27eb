"""Probes see the run as it is before the steps they are due at, and what they return is kept."""

import os
import signal
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_tut.training import Aux, Checkpoint, History, Probe, Snapshot, fit
from tests.training.checkpoints.runs import digest

EPS = float(np.finfo(np.float32).eps)
NUM_STEPS = 6  # an epoch


def parabola(w, batch):
    return jnp.mean((w - batch) ** 2) / 2


def run(loss_fn=parabola, params=0.0, optimizer=None, dataset=None, **options):
    """Train from 0 to 1 by tenths of what is left: 1 - .9^t after t steps."""
    given = dict(batch_size=2, num_epochs=3, key=jax.random.key(0), progress=False) | options
    data = jnp.ones(2 * NUM_STEPS) if dataset is None else dataset
    return fit(loss_fn, params, optimizer or SGD, data, **given)


SGD = optax.sgd(0.1)


def after(steps):
    return 1 - 0.9 ** np.asarray(steps, float)


def close(found, steps):
    """Compare with the closed form: a rounding a step."""
    np.testing.assert_allclose(found, after(steps), rtol=EPS * (max(steps) + 1), atol=EPS)


def always(measure):
    return Probe(lambda _: None, lambda state, now: (state, measure(now)))


WHERE = always(lambda now: now.params)
COUNT = Probe(lambda _: 0, lambda count, now: (count + 1, (count, now.step)))


@pytest.mark.parametrize("steps_per_call", [1, 4, 50])
@pytest.mark.parametrize("every", [1, 4, 7, 18, 100])
def test_probes_measure_before_every_kth_step_and_at_the_end(every, steps_per_call):
    result = run(
        probes={"w": WHERE, "count": COUNT}, probe_every=every, steps_per_call=steps_per_call
    )
    steps = [*range(0, 18, every), 18]
    history = result.history
    assert history.probe_steps.tolist() == steps
    close(history.probes["w"], steps)
    count, step = history.probes["count"]
    assert count.tolist() == list(range(len(steps)))
    assert step.tolist() == steps
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(history.probes))


def test_probes_do_not_change_what_is_trained():
    plain, probed = run(), run(probes={"w": WHERE}, probe_every=4)
    assert plain.history.probes == {}
    assert plain.history.probe_steps.shape == (0,)
    assert plain.params == probed.params
    np.testing.assert_array_equal(plain.history.steps["loss"], probed.history.steps["loss"])


def test_the_end_of_no_steps_is_measured():
    history = run(num_epochs=0, probes={"w": WHERE}).history
    assert history.probe_steps.tolist() == [0]
    assert history.probes["w"].tolist() == [0]


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_what_a_probe_is_handed_and_returns_outlives_the_steps(steps_per_call):
    kept = []

    def measure(state, now):
        kept.append(now)
        return now.params, {"same": now.params, "view": np.asarray(now.params), "before": state}

    probe = Probe(lambda start: start.params, measure)
    optimizer = optax.sgd(0.2, momentum=0.0)  # the loss is a mean over two
    history = run(
        params=jnp.zeros(2), optimizer=optimizer, probes={"w": probe}, probe_every=2,
        steps_per_call=steps_per_call,
    ).history  # fmt: skip
    steps = range(0, 19, 2)
    for found in (history.probes["w"]["same"], history.probes["w"]["view"]):
        close(found[:, 0], steps)
    close(history.probes["w"]["before"][1:, 0], steps[:-1])
    close([now.params[0] for now in kept], steps)
    for now, step in zip(kept, steps, strict=True):
        trace = optax.tree.get(now.opt_state, "trace")  # the gradient of the step before
        gradient = (after(step - 1) - 1) / 2 if step else 0
        np.testing.assert_allclose(trace[0], gradient, rtol=20 * EPS)


class Net(nnx.Module):
    def __init__(self, seed):
        self.norm = nnx.BatchNorm(1, rngs=nnx.Rngs(seed))
        self.out = nnx.Linear(1, 1, rngs=nnx.Rngs(seed))

    def __call__(self, x):
        return self.out(self.norm(x))


@pytest.mark.parametrize("make", [Net, lambda seed: eqx.nn.Linear(1, 1, key=jax.random.key(seed))])
def test_a_model_is_measured_as_one(make):
    apply = lambda model, x: jax.vmap(model)(x) if isinstance(model, eqx.Module) else model(x)
    loss_fn = lambda model, x, state: (
        jnp.mean(apply(model, x) ** 2), Aux(model_state={"steps": state["steps"] + 1})
    )  # fmt: skip
    model, seen = make(0), []

    def measure(_, now):
        seen.append(now)
        return None, now.model_state["steps"]

    result = run(
        loss_fn, model, dataset=jnp.ones((12, 1)), model_state={"steps": jnp.int32(0)},
        probes={"model": Probe(lambda start: seen.append(start), measure)}, probe_every=4,
    )  # fmt: skip
    assert all(type(now.params) is type(model) for now in seen)
    assert result.history.probes["model"].tolist() == [0, 4, 8, 12, 16, 18]
    last = jax.tree.leaves(nnx.state(result.params) if make is Net else result.params)
    found = seen[-1].params
    found = jax.tree.leaves(nnx.state(found) if make is Net else found)
    assert all(map(np.array_equal, last, found))


class Numbers(NamedTuple):
    value: float
    residual: float


def test_what_is_measured_keeps_its_tree_its_precision_and_what_is_not_finite():
    measured = {
        "python": 1.5, "pair": Numbers(2, jnp.float32(jnp.nan)), "none": None,
        "double": np.float64(np.pi), "half": jnp.bfloat16(jnp.inf), "row": np.arange(3),
        "empty": jnp.zeros((0, 2)), "flag": True,
    }  # fmt: skip
    found = run(probes={"all": always(lambda _: measured)}, num_epochs=1).history.probes["all"]
    assert jax.tree.structure(found) == jax.tree.structure(measured)
    assert found["python"].tolist() == [1.5, 1.5]
    assert isinstance(found["pair"], Numbers)
    assert found["pair"].value.tolist() == [2, 2]
    assert np.isnan(found["pair"].residual).all()
    assert found["double"].tolist() == [np.pi, np.pi]
    assert found["half"].dtype == jnp.bfloat16
    assert np.isinf(found["half"].astype(float)).all()
    assert found["row"].tolist() == 2 * [[0, 1, 2]]
    assert found["empty"].shape == (2, 0, 2)
    assert found["flag"].dtype == bool


def rooted(at_fault):
    """Let the parameter move by 0.1 a step; from 0.65 on, at the eighth step, it is of no use."""

    def loss_fn(w, _):
        return 0 * jnp.sqrt(jnp.maximum(0.65 - w, 0.0 if at_fault == "gradient" else -1.0)) - w

    return loss_fn


@pytest.mark.parametrize("steps_per_call", [1, 5])
@pytest.mark.parametrize("at_fault", ["loss", "gradient"])
@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_step_that_cannot_be_taken_ends_it(steps_per_call, at_fault, every):
    result = run(
        rooted(at_fault), jnp.zeros(()), probes={"w": WHERE, "count": COUNT}, probe_every=every,
        steps_per_call=steps_per_call,
    )  # fmt: skip
    assert f"non-finite {at_fault}" in result.message
    steps = sorted({*range(0, 8, every), 7})
    assert result.history.probe_steps.tolist() == steps
    np.testing.assert_allclose(
        result.history.probes["w"], np.multiply(steps, 0.1), rtol=8 * EPS, atol=EPS
    )
    # the state went back, where steps were taken again
    assert result.history.probes["count"][0].tolist() == list(range(len(steps)))


def test_from_parameters_that_are_not_finite_nothing_is_measured():
    history = run(params=jnp.nan, probes={"w": WHERE}, probe_every=1).history
    assert history.probes == {}
    assert history.probe_steps.tolist() == []


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_leaves_whole_records():
    calls = []

    def measure(count, now):
        calls.append(now.step)
        if now.step == 8:
            press_ctrl_c()
        return count + 1, count

    probes = {"w": WHERE, "count": Probe(lambda _: 0, measure)}
    result = run(probes=probes, probe_every=2)
    assert result.message == "Interrupted in epoch 2, step 2."
    assert calls == [0, 2, 4, 6, 8]
    assert result.history.probe_steps.tolist() == [0, 2, 4, 6]
    close(result.history.probes["w"], [0, 2, 4, 6])
    assert result.history.probes["count"].tolist() == [0, 1, 2, 3]


def test_ctrl_c_while_the_end_is_measured_leaves_it_out():
    probe = always(lambda now: press_ctrl_c() if now.step == 18 else now.params)
    result = run(probes={"w": probe}, probe_every=10)
    assert result.message == "Finished 3 epochs."
    assert result.history.probe_steps.tolist() == [0, 10]


def test_a_stop_sees_what_was_measured():
    seen = []

    def stop(history):
        seen.append(history.probe_steps.tolist())
        return history.probes["w"][-1] > 0.6

    result = run(probes={"w": WHERE}, probe_every=4, stop=stop)
    assert seen == [[0, 4], [0, 4, 8]] + [[0, 4, 8, 12, 16]] * (len(seen) > 2)
    close(result.history.probes["w"], result.history.probe_steps)


DRIFT = Probe(
    lambda start: {"key": jax.random.key(1), "w": start.params},
    lambda state, now: (
        {"key": jax.random.split(state["key"])[0], "w": (state["w"] + now.params) / 2},
        (state["w"], jax.random.normal(state["key"])),
    ),
)


def test_more_epochs_go_on_as_if_there_had_been_no_end(tmp_path):
    given = dict(probes={"drift": DRIFT}, probe_every=4)
    run(num_epochs=1, checkpoint=tmp_path, **given)
    again = run(num_epochs=1, checkpoint=tmp_path, **given)
    assert again.resumed_from == 6
    assert digest(again) == digest(run(num_epochs=1, **given))
    more = run(num_epochs=3, checkpoint=tmp_path, **given)
    assert more.history.probe_steps.tolist() == [0, 4, 8, 12, 16, 18]
    assert digest(more) == digest(run(num_epochs=3, **given))


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        ({}, {"probes": {"w": WHERE}}, "set of probes is another one"),
        ({"probes": {"w": WHERE}}, {}, "set of probes is another one"),
        ({"probes": {"w": WHERE}}, {"probes": {"v": WHERE}}, "set of probes is another one"),
        (
            {"probes": {"w": WHERE}, "probe_every": 5},
            {"probes": {"w": WHERE}, "probe_every": 4},
            "probe_every is 5, not 4",
        ),
        (
            {"probes": {"w": WHERE}},
            {"probes": {"w": always(lambda now: now.params[None])}},
            r"to measure a tree of the same form each time, got float32\[1\] at",
        ),
        (
            {"probes": {"w": WHERE}},
            {"probes": {"w": always(lambda now: (now.params, 1))}},
            "to measure a tree of the same form each time, got 2 leaves, before 1.",
        ),
        (
            {"probes": {"w": DRIFT}},
            {"probes": {"w": WHERE}},
            "got the checkpoint .* with|of the same form",
        ),
    ],
)
def test_a_run_is_resumed_with_its_own_probes_alone(before, now, differs, tmp_path):
    run(num_epochs=1, checkpoint=tmp_path, **before)
    with pytest.raises(ValueError, match=differs):
        run(num_epochs=2, checkpoint=tmp_path, **now)


def test_runs_without_probes_are_resumed_whatever_their_interval(tmp_path):
    run(num_epochs=1, checkpoint=tmp_path, probe_every=3)
    assert run(num_epochs=2, checkpoint=tmp_path, probe_every=4).resumed_from == 6


def test_a_save_in_the_middle_of_an_epoch_holds_what_was_measured(tmp_path):
    """Also where the epoch is taken again: the third epoch has a step that cannot be taken."""
    loss_fn = lambda w, x: parabola(w, x) + jnp.where(w > after(15.5), jnp.nan, 0.0)
    given = dict(loss_fn=loss_fn, probes={"drift": DRIFT, "w": WHERE}, probe_every=2)
    undisturbed = run(**given)
    assert undisturbed.history.probe_steps.tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16]

    class Killed(Exception):
        pass

    for number in (2, 5, 8):
        events = []

        def on_event(event, events=events, number=number):
            events.extend([event] * (event.kind == "checkpoint"))
            if len(events) == number:
                raise Killed

        checkpoint = Checkpoint(tmp_path / str(number), every_steps=2)
        with pytest.raises(Killed):
            run(checkpoint=checkpoint, on_event=on_event, **given)
        resumed = run(checkpoint=checkpoint, **given)
        assert resumed.resumed_from
        assert digest(resumed) == digest(undisturbed)


def changing(first, then):
    """Make a probe that returns one thing, and then another."""
    return always(lambda now: then if now.step else first)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probes": [WHERE]}, TypeError, "fit needs a dictionary of probes, such as "),
        ({"probes": {3: WHERE}}, TypeError, "fit needs probes that are named by texts, got 3."),
        (
            {"probes": {"w": abs}},
            TypeError,
            r"fit needs a Probe\(init, measure\) of two functions, got builtin_function_or_method "
            "for 'w'.",
        ),
        ({"probes": {"w": (abs, 3)}}, TypeError, "of two functions, got tuple for 'w'"),
        (
            {"probes": {"w": Probe(lambda: None, WHERE.measure)}},
            TypeError,
            r"fit calls init\(snapshot\), got one of .*that of probe 'w'",
        ),
        (
            {"probes": {"w": Probe(WHERE.init, lambda now: now)}},
            TypeError,
            r"fit calls measure\(state, snapshot\), got one of .*that of probe 'w'",
        ),
        ({"probe_every": 0}, ValueError, "fit needs probe_every >= 1, got probe_every=0."),
        ({"probe_every": 2.0}, TypeError, "fit needs an integer probe_every, got probe_every=2.0."),
        ({"probe_every": None}, TypeError, "fit needs an integer probe_every, got "),
        (
            {"probes": {"w": Probe(lambda _: None, lambda *_: 3.0)}},
            TypeError,
            r"fit needs measure of probe 'w' to return \(state, measured\), got float.",
        ),
        (
            {"probes": {"w": always(lambda _: {"name": "text"})}},
            TypeError,
            "fit needs probe 'w' to measure arrays, got str at 'name'.",
        ),
        (
            {"probes": {"w": always(lambda _: jax.random.key(0))}},
            TypeError,
            r"fit needs probe 'w' to measure arrays, got key<fry>\[\] at '\(root\)'.",
        ),
        (
            {"probes": {"w": always(lambda _: 10**400)}},
            TypeError,
            r"fit needs probe 'w' to measure arrays, got int at '\(root\)'.",
        ),
        (
            {"probes": {"w": Probe(lambda _: {"f": abs}, WHERE.measure)}},
            TypeError,
            "fit needs a state of arrays of probe 'w', got builtin_function_or_method at 'f'.",
        ),
        (
            {"probes": {"w": changing(jnp.zeros(2), jnp.zeros(3))}},
            ValueError,
            r"fit needs probe 'w' to measure a tree of the same form each time, got float32\[3\] "
            r"at '\(root\)', before float32\[2\] at '\(root\)'.",
        ),
        (
            {"probes": {"w": changing({"a": 1}, {"a": 1, "b": 2})}},
            ValueError,
            r"got int64\[\] at 'b', before nothing",
        ),
        ({"probes": {"w": changing((1, 2), [1, 2])}}, ValueError, "got PyTreeDef"),
        ({"probes": {"w": changing(1, 1.5)}}, ValueError, r"got float64\[\] .* before int64\[\]"),
        (
            {"probes": {"w": Probe(lambda _: None, lambda _, now: (now.params, 1))}},
            ValueError,
            r"fit needs probe 'w' to return a state of the same form each time, got float32\[\] "
            r"at '\(root\)', before nothing.",
        ),
    ],
)  # fmt: skip
def test_what_is_no_probe_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        run(**{"probe_every": 5, **options})


def test_a_plain_pair_of_functions_is_a_probe():
    history = run(probes={"w": (lambda _: None, lambda state, now: (state, now.params))}).history
    close(history.probes["w"], [0, 10, 18])


def test_a_history_may_be_made_without_probes():
    history = History({}, {"loss": np.ones(2)}, {}, {})
    assert history.probes == {}
    assert history.probe_steps.shape == (0,)
    assert list(history.columns()) == ["epoch", "loss"]


def test_a_measurement_may_be_compiled_with_the_snapshot_as_its_argument():
    traced = []

    @jax.jit
    def measure(state, now: Snapshot):
        traced.append(1)
        return state, now.params * now.step

    history = run(probes={"w": Probe(lambda _: None, measure)}, probe_every=3).history
    np.testing.assert_allclose(
        history.probes["w"], history.probe_steps * after(history.probe_steps), rtol=20 * EPS
    )
    assert len(traced) == 1
