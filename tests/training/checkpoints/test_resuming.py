"""A run that was taken up again is the undisturbed one, bit for bit."""

from collections.abc import Callable
from contextlib import nullcontext

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_tut.optimizers import adam
from jaxopt_tut.training import Aux, Batches, Checkpoint, Probe, Streamed, fit, patience, restore
from tests.training.checkpoints.runs import digest

X = np.asarray(jax.random.normal(jax.random.key(1), (64, 3)))
Y = X @ np.array([1.0, 2.0, 3.0], np.float32)


class Killed(Exception):
    """Ends a run at an event, as nothing of it is left in the next one."""


def killer(number, kind="checkpoint"):
    """Raise at the event of a kind of this number."""
    seen = []

    def on_event(event):
        seen.extend([event] * (event.kind == kind))
        if len(seen) == number and event.kind == kind:
            raise Killed

    return on_event


def loss_fn(params, batch):
    error = batch[0] @ params["w"] - batch[1]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def drawing(params, batch, state):
    """A loss that draws by a key in its state, and has a running average."""
    key, now = jax.random.split(state["key"])
    keep = jax.random.bernoulli(now, 0.8, batch[0].shape).astype(jnp.float32)
    loss, metrics = loss_fn(params, (batch[0] * keep, batch[1]))
    average = 0.9 * state["average"] + 0.1 * loss
    return loss, Aux(metrics, {"key": key, "average": average, "none": state["none"]})


def evaluate(params, _model_state=None):
    """Measure in float64 on the host; the best is in the middle, as the rate is too large."""
    loss = np.mean((X.astype(float) @ np.asarray(params["w"], float) - Y) ** 2)
    return {"loss": loss, "norm": np.abs(np.asarray(params["w"])).max()}


def start(**more):
    # an array without elements, a number without axes: orbax refuses the first
    return {"w": jnp.zeros(3), "none": jnp.zeros((0, 2)), "scale": jnp.float32(1.0), **more}


def state():
    return {"key": jax.random.key(7), "average": jnp.float32(0.0), "none": jnp.zeros((3, 0))}


ADAM = adam(0.3)
MOMENTUM = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.02, momentum=0.95))
SKIPPING = optax.apply_if_finite(optax.sgd(0.1), 100)


def spiky(params, batch):
    """Infinite gradients where a batch has a certain example: the epoch is taken again."""
    loss, metrics = loss_fn(params, batch)
    bad = jnp.any(jnp.abs(batch[1] - Y[11]) < 1e-6)
    return loss + jnp.where(bad, 1.0, 0.0) * jnp.sqrt(params["zero"]), metrics


def drawn():
    """Draw batches without an end; they cannot be drawn again but from the start."""
    draw = np.random.default_rng(2)
    while True:
        chosen = draw.integers(64, size=8)
        yield X[chosen], Y[chosen]


def deadly(params, batch):
    """A loss that is not finite once the parameters have moved far enough."""
    loss, metrics = loss_fn(params, batch)
    return jnp.where(params["w"][2] > 1.5, jnp.nan, loss), metrics


RUNS = {
    "adam": dict(loss_fn=loss_fn, optimizer=ADAM, evaluate=evaluate),
    "no evaluation": dict(loss_fn=loss_fn, optimizer=MOMENTUM),
    "model state": dict(loss_fn=drawing, optimizer=ADAM, model_state=state(), evaluate=evaluate),
    "dispatches of three": dict(loss_fn=loss_fn, optimizer=ADAM, steps_per_call=3),
    "accumulating": dict(loss_fn=drawing, optimizer=ADAM, model_state=state(), accumulate=2),
    "patience": dict(
        loss_fn=loss_fn, optimizer=MOMENTUM, evaluate=evaluate, stop=patience(1), num_epochs=40
    ),
    "an epoch taken again": dict(loss_fn=spiky, optimizer=SKIPPING, evaluate=evaluate),
    "stopped": dict(loss_fn=deadly, optimizer=ADAM, evaluate=evaluate),
    "streamed": dict(loss_fn=loss_fn, optimizer=ADAM, evaluate=evaluate, data=Streamed((X, Y))),
    "batches": dict(
        loss_fn=loss_fn, optimizer=ADAM, evaluate=evaluate, data=Batches(drawn, 8), batch_size=None
    ),
    "an older key": dict(loss_fn=loss_fn, optimizer=ADAM, key=jax.random.PRNGKey(3)),
}

# a running average and a key as the state of a probe
WANDERS = Probe(
    lambda start: (jax.random.key(9), start.params["w"]),
    lambda state, now: (
        (jax.random.split(state[0])[0], (state[1] + now.params["w"]) / 2),
        {"w": state[1], "drawn": jax.random.normal(state[0])},
    ),
)

ENDS = {"dispatches of three": (2, 3, 7), "stopped": (1, 2, 3)}


def run(name, **more):
    given = dict(batch_size=8, num_epochs=3, key=jax.random.key(0), progress=False)
    given |= {"probes": {"wanders": WANDERS}, "probe_every": 3}
    given |= RUNS[name] | more
    params = start(zero=jnp.float32(0.0)) if name == "an epoch taken again" else start()
    data = given.pop("data", (X, Y))
    loss, optimizer = given.pop("loss_fn"), given.pop("optimizer")
    return fit(loss, params, optimizer, data, **given)


def test_the_kinds_of_runs_are_those_meant():
    assert "Stopped" in run("stopped").message
    assert "the score did not rise" in run("patience").message
    again = run("an epoch taken again")
    assert again.finite
    assert int(again.opt_state.total_notfinite) > 0


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_undisturbed_one(name, tmp_path):
    undisturbed = run(name)
    total = len(undisturbed.history.steps["loss"])
    for at in ENDS.get(name, (2, 4, 9)):  # in the first epoch, at its end, in the third
        checkpoint = Checkpoint(tmp_path / str(at), every_steps=2)
        with pytest.raises(Killed):
            run(name, checkpoint=checkpoint, on_event=killer(at))
        resumed = run(name, checkpoint=checkpoint)
        assert resumed.resumed_from is not None
        assert at <= resumed.resumed_from <= total
        assert resumed.message == undisturbed.message
        assert digest(resumed) == digest(undisturbed)
        assert resumed.warnings == ()


@pytest.mark.parametrize("kind", ["epoch", "evaluation"])
def test_what_is_due_at_the_end_of_an_epoch_is_done_once(kind, tmp_path):
    undisturbed, calls = run("adam"), []

    def counted(params):
        calls.append(1)
        if kind == "evaluation" and len(calls) == 2:
            raise Killed
        return evaluate(params)

    checkpoint = Checkpoint(tmp_path, every_steps=1)
    on_event = killer(2, "epoch") if kind == "epoch" else None
    with pytest.raises(Killed):
        run("adam", checkpoint=checkpoint, evaluate=counted, on_event=on_event)
    events = []
    resumed = run("adam", checkpoint=checkpoint, evaluate=counted, on_event=events.append)
    assert digest(resumed) == digest(undisturbed)
    assert len(resumed.history.validation["loss"]) == 3
    assert [event.epoch for event in events if event.kind == "epoch"] == [2, 3]
    assert events[0].kind == "resume"
    assert events[0].epoch == 1


def test_a_finished_run_returns_its_result_at_once(tmp_path):
    undisturbed = run("adam")
    first = run("adam", checkpoint=tmp_path)
    assert first.resumed_from is None
    never = lambda _params: pytest.fail("evaluated again")
    again = run("adam", checkpoint=str(tmp_path), evaluate=never)
    assert again.resumed_from == 24
    assert digest(first) == digest(again) == digest(undisturbed)


@pytest.mark.parametrize("name", ["stopped", "patience"])
def test_a_run_that_ended_early_stays_ended(name, tmp_path):
    first = run(name, checkpoint=tmp_path)
    with (
        pytest.warns(UserWarning, match="had stopped at step")
        if name == "stopped"
        else nullcontext()
    ):
        again = run(name, checkpoint=tmp_path, num_epochs=60)
    assert again.message == first.message
    assert ["trains it no further" in warning for warning in again.warnings] == (
        [True] if name == "stopped" else []
    )
    assert digest(again) == digest(first)


def test_more_epochs_go_on_from_the_last_one(tmp_path):
    run("adam", checkpoint=tmp_path, num_epochs=2)
    more = run("adam", checkpoint=tmp_path, num_epochs=5)
    assert more.resumed_from == 16
    assert digest(more) == digest(run("adam", num_epochs=5))


def test_diagnoses_are_kept(tmp_path):
    given = dict(diagnose_every=6, num_epochs=2)
    undisturbed = run("no evaluation", **given)
    checkpoint = Checkpoint(tmp_path, every_steps=1)
    with pytest.raises(Killed):
        run("no evaluation", checkpoint=checkpoint, on_event=killer(13), **given)
    resumed = run("no evaluation", checkpoint=checkpoint, **given)
    assert list(resumed.history.diagnoses) == [0, 6, 12]
    assert digest(resumed) == digest(undisturbed)
    for at, diagnosis in resumed.history.diagnoses.items():
        assert diagnosis.verdicts == undisturbed.history.diagnoses[at].verdicts


def test_a_key_for_init_makes_no_difference_to_what_is_resumed(tmp_path):
    init = lambda key: {"w": jax.random.normal(key, (3,))}
    given = dict(batch_size=8, num_epochs=2, key=jax.random.key(0), progress=False)
    undisturbed = fit(loss_fn, init, ADAM, (X, Y), **given)
    checkpoint = Checkpoint(tmp_path, every_steps=5)
    with pytest.raises(Killed):
        fit(loss_fn, init, ADAM, (X, Y), checkpoint=checkpoint, on_event=killer(2), **given)
    resumed = fit(loss_fn, init, ADAM, (X, Y), checkpoint=checkpoint, **given)
    assert resumed.resumed_from == 15
    assert digest(resumed) == digest(undisturbed)


class Net(nnx.Module):
    """A network with averages and a key of its own."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(self.norm(x)))[:, 0]


class Module(eqx.Module):
    """A network with a function among its leaves."""

    out: eqx.nn.Linear
    activation: Callable

    def __init__(self, seed):
        self.out, self.activation = eqx.nn.Linear(3, 1, key=jax.random.key(seed)), jnp.tanh

    def __call__(self, x):
        return jax.vmap(self.out)(self.activation(x))[:, 0]


@pytest.mark.parametrize("make", [Net, Module])
def test_a_model_is_resumed_and_restored_as_one(make, tmp_path):
    fits = lambda model, batch: jnp.mean((model(batch[0]) - batch[1]) ** 2)
    given = dict(batch_size=8, num_epochs=2, key=jax.random.key(0), progress=False)
    undisturbed = fit(fits, make(0), ADAM, (X, Y), **given)
    options = Checkpoint(tmp_path, every_steps=5)
    with pytest.raises(Killed):
        fit(fits, make(0), ADAM, (X, Y), checkpoint=options, on_event=killer(2), **given)
    resumed = fit(fits, make(0), ADAM, (X, Y), checkpoint=options, **given)
    assert resumed.resumed_from == 15
    numbers = lambda model: [
        np.asarray(jax.random.key_data(leaf) if leaf.dtype.name.startswith("key") else leaf)
        for leaf in jax.tree.leaves(model)
        if hasattr(leaf, "dtype")
    ]
    restored = restore(tmp_path, {"best": make(1), "params": make(2)})
    for model in (resumed.params, restored["params"], restored["best"]):
        assert isinstance(model, make)
        for one, right in zip(numbers(model), numbers(undisturbed.params), strict=True):
            np.testing.assert_array_equal(one, right)
