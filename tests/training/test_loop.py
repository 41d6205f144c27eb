"""What the host keeps during a run, and how far it goes when no step can be taken."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import Aux, fit, loop

X = jnp.arange(8.0)


def distance(w, batch):
    return jnp.mean((w - batch) ** 2)


def run(loss_fn=distance, params=0.0, dataset=X, **options):
    options = {
        "optimizer": optax.sgd(0.1), "batch_size": 2, "num_epochs": 3, "key": jax.random.key(0),
        "progress": False, **options,
    }  # fmt: skip
    return fit(loss_fn, params, options.pop("optimizer"), dataset, **options)


@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize("best", ["all", "first"])
def test_what_evaluate_keeps_is_not_donated(steps_per_call, best):
    """Parameters and state after four, eight and twelve steps."""
    kept = []

    def loss_fn(w, _, state):
        return w, Aux(model_state={"steps": state["steps"] + 1})

    def evaluate(params, state):
        kept.append((params, state["steps"]))
        return {"loss": -len(kept) if best == "all" else len(kept)}

    result = run(
        loss_fn, model_state={"steps": 0}, evaluate=evaluate, steps_per_call=steps_per_call
    )
    # twelve steps of 0.1, each a rounding
    rounding = 12 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose([p for p, _ in kept], [-0.4, -0.8, -1.2], rtol=rounding)
    assert [int(steps) for _, steps in kept] == [4, 8, 12]
    assert result.best == kept[result.best_epoch - 1][0]
    assert result.best_epoch == (3 if best == "all" else 1)


SIZE = 10_007


def copies():
    return sum(a.shape == (SIZE,) and not a.is_deleted() for a in jax.live_arrays())


def draw(_):
    return jnp.zeros(SIZE)


@pytest.mark.parametrize("params", [np.zeros(SIZE, np.float32), draw], ids=["array", "init"])
@pytest.mark.parametrize("continued", [False, True])
def test_the_device_holds_no_copy_that_nobody_needs(params, continued, monkeypatch):
    """Parameters and a momentum; in an epoch those at its start; those evaluated; the best."""
    optimizer = optax.sgd(0.1, momentum=0.9)
    opt_state = jax.tree.map(np.zeros_like, optimizer.init(jnp.zeros(SIZE)))
    before, trained, evaluated = copies(), [], []
    real = loop.run_steps

    def counting(*args, **kwargs):
        trained.append(copies() - before)
        return real(*args, **kwargs)

    def evaluate(_):
        evaluated.append(copies() - before)
        return {"loss": 0.0}

    monkeypatch.setattr(loop, "run_steps", counting)
    run(
        lambda w, batch: jnp.mean((w[:2] - batch[0]) ** 2), params, optimizer=optimizer,
        evaluate=evaluate, opt_state=opt_state if continued else None,
    )  # fmt: skip
    assert evaluated == [3, 4, 4]
    assert trained == 4 * [4] + 8 * [5]


@pytest.mark.parametrize("steps_per_call", [1, 4])
@pytest.mark.parametrize("at_fault", ["loss", "gradient"])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_only_steps_that_were_begun_are_diagnosed(steps_per_call, at_fault, every, monkeypatch):
    """The parameter moves by 0.1 a step; from 0.65 on, at the eighth step, it is of no use."""
    monkeypatch.setattr(loop, "diagnose", lambda _loss, params, _batch: float(params))

    def loss_fn(w, _):
        root = jnp.sqrt(jnp.maximum(0.65 - w, 0.0 if at_fault == "gradient" else -1.0))
        return 0 * root - w

    result = run(
        loss_fn, jnp.zeros(()), diagnose_every=every, num_epochs=4, steps_per_call=steps_per_call
    )
    assert not result.finite
    assert at_fault in result.message
    assert "in epoch 2, step 4" in result.message
    assert result.history.steps["loss"].shape == (8,)
    assert sorted(result.history.diagnoses) == list(range(0, 8, every))
    for steps, params in result.history.diagnoses.items():
        assert params == pytest.approx(0.1 * steps, rel=8 * float(np.finfo(np.float32).eps))


@pytest.mark.parametrize("steps_per_call", [1, 3, 50])
def test_from_parameters_that_are_not_finite_nothing_is_recorded(steps_per_call, monkeypatch):
    evaluated = []
    monkeypatch.setattr(loop, "diagnose", lambda *_: "a diagnosis")
    result = run(
        lambda w, b: (distance(w, b), {"metric": 5.0}), jnp.nan, steps_per_call=steps_per_call,
        diagnose_every=1, evaluate=lambda w: evaluated.append(w) or {"loss": 1.0},
    )  # fmt: skip
    assert result.message == (
        "Stopped before the first step: the parameters are not finite at '(root)'."
    )
    assert not result.finite
    assert evaluated == []
    assert result.best_epoch == 0
    for column in (*result.history.steps.values(), *result.history.train.values()):
        assert column.shape == (0,)
    assert result.history.diagnoses == {}


@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize(("good", "epoch"), [(0, 0), (1, 1), (3, 1), (4, 1), (5, 2), (8, 2)])
def test_the_best_epoch_is_that_which_led_to_the_parameters(good, epoch, steps_per_call):
    """Epochs of four steps; the loss ends to be finite after some."""
    loss_fn = lambda w, _: jnp.where(w > 0.1 * good - 0.05, jnp.inf, -w)
    result = run(loss_fn, steps_per_call=steps_per_call)
    assert result.history.steps["loss"].shape == (good + 1,)
    assert result.best_epoch == epoch
    assert result.best == result.params


@pytest.mark.parametrize("at_fault", ["loss", "gradient"])
def test_an_epoch_ends_soon_after_a_step_that_cannot_be_taken(at_fault, monkeypatch):
    monkeypatch.setattr(loop, "STEPS_AHEAD", 8)
    dispatches = []
    real = loop.run_steps
    monkeypatch.setattr(loop, "run_steps", lambda *a, **k: dispatches.append(1) or real(*a, **k))
    bad = {"loss": lambda w: w / 0, "gradient": lambda w: w + jnp.sqrt(0 * w)}[at_fault]
    result = run(lambda w, _: bad(w), jnp.ones(()), jnp.ones(400), steps_per_call=1)
    assert f"non-finite {at_fault}" in result.message
    assert "in epoch 1, step 1" in result.message
    # the epoch, and the same in exact steps; a NaN in the parameters makes the next loss one
    assert len(dispatches) <= 2 * 8
