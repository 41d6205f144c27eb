"""Ctrl-C returns what there is, and never loses it."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import fit
from jaxopt_tut.training.interrupts import Interrupts

FLOAT32_EPS = float(np.finfo(np.float32).eps)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def parabola(w, batch):
    return jnp.mean((w - batch) ** 2) / 2


def run(**options):
    options = {"num_epochs": 5, "key": jax.random.key(0), "progress": False, **options}
    params, optimizer = options.pop("params", jnp.array(0.0)), optax.sgd(0.1)
    return fit(parabola, params, optimizer, jnp.ones(12), batch_size=2, **options)


def test_ctrl_c_between_epochs_returns_what_there_is():
    calls = []

    def evaluate(params):
        calls.append(float(params))
        if len(calls) == 3:
            press_ctrl_c()
        return {"loss": -len(calls)}

    handler = signal.getsignal(signal.SIGINT)
    result = run(evaluate=evaluate)
    assert signal.getsignal(signal.SIGINT) is handler
    assert result.message == "Interrupted in epoch 3, step 6."
    assert result.finite
    np.testing.assert_allclose(result.params, 1 - 0.9**18, rtol=18 * FLOAT32_EPS)
    assert result.history.steps["loss"].shape == (18,)
    assert result.history.validation["loss"].tolist() == [-1, -2]
    assert (result.best_epoch, float(result.best)) == (2, calls[1])
    assert jax.tree.leaves(result.opt_state) == jax.tree.leaves(optax.sgd(0.1).init(0.0))


def test_ctrl_c_while_a_step_is_dispatched_waits_for_it(monkeypatch):
    """The buffers of the step before are gone by then."""
    from jaxopt_tut.training import loop

    dispatches = []
    real = loop.run_steps

    def interrupted(carry, *args, **kwargs):
        out = real(carry, *args, **kwargs)
        dispatches.append(1)
        if len(dispatches) == 9:
            press_ctrl_c()
            assert all(map(bool, dispatches))  # bytecode at which a handler would have raised
        return out

    monkeypatch.setattr(loop, "run_steps", interrupted)
    result = run()
    assert result.message == "Interrupted in epoch 2, step 3."
    np.testing.assert_allclose(result.params, 1 - 0.9**9, rtol=9 * FLOAT32_EPS)
    assert result.history.steps["loss"].shape == (9,)
    assert result.history.train["loss"].shape == (2,)
    assert np.isfinite(result.best)


def test_ctrl_c_after_a_gradient_that_was_not_finite_returns_the_start_of_the_epoch(monkeypatch):
    from jaxopt_tut.training import loop

    norm_at_zero = lambda w, batch: jnp.sqrt(jnp.sum((w * batch * 0) ** 2))
    dispatches = []
    real = loop.run_steps

    def interrupted(*args, **kwargs):
        dispatches.append(1)
        if len(dispatches) == 1:
            press_ctrl_c()
        return real(*args, **kwargs)

    monkeypatch.setattr(loop, "run_steps", interrupted)
    result = fit(
        norm_at_zero, jnp.array(2.0), optax.sgd(0.1), jnp.ones(4),
        batch_size=2, num_epochs=1, key=jax.random.key(0), progress=False,
    )  # fmt: skip
    assert result.message == "Interrupted in epoch 1, step 0."
    assert float(result.params) == float(result.best) == 2
    assert result.history.steps["loss"].shape == (0,)


def test_ctrl_c_before_the_first_step_returns_the_initial_parameters(monkeypatch):
    from jaxopt_tut.training.data import sources

    def raising(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "epoch_order", raising)
    result = run()
    assert result.message == "Interrupted in epoch 1, step 0."
    assert float(result.params) == 0
    assert result.history.steps["loss"].shape == (0,)


def test_a_second_ctrl_c_interrupts(monkeypatch):
    from jaxopt_tut.training import loop

    def twice(*_args, **_kwargs):
        press_ctrl_c()
        press_ctrl_c()

    monkeypatch.setattr(loop, "run_steps", twice)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) is handler


def test_another_thread_trains_too():
    results = []
    thread = threading.Thread(target=lambda: results.append(run(num_epochs=1)))
    thread.start()
    thread.join()
    assert results[0].message == "Finished 1 epoch."


def test_a_handler_of_ones_own_gets_the_signal():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        interrupts = Interrupts()
        with interrupts.handled():
            with interrupts.held():
                press_ctrl_c()
                assert seen == []
            press_ctrl_c()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] * 2
