"""What can go wrong around the checkpoints of a run, each in a sentence."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import Checkpoint, DamagedCheckpoint, fit
from jaxopt_tut.training.checkpoints import folder, store

X = np.arange(24, dtype=np.float32).reshape(12, 2) / 24
SGD = optax.sgd(0.1)


def loss_fn(params, batch):
    w = params["w"]
    return jnp.mean((batch.astype(w.dtype) @ w - 1.0) ** 2)


def run(checkpoint, params=None, data=X, **more):
    given = dict(batch_size=3, num_epochs=2, key=jax.random.key(0), progress=False) | more
    params = {"w": jnp.zeros(2)} if params is None else params
    return fit(loss_fn, params, SGD, data, checkpoint=checkpoint, **given)


def files(directory):
    """Return all that is in a folder, but for the lock."""
    return {
        at: (directory / at).read_bytes()
        for at in folder.files_of(directory)
        if at != "jaxopt_tut.lock"
    }


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (dict(directory=3), TypeError, "Checkpoint needs a path as directory, got directory=3."),
        (dict(directory=""), TypeError, "Checkpoint needs a path as directory, got directory=''."),
        (dict(every_seconds=0), ValueError, "needs every_seconds > 0, got every_seconds=0."),
        (dict(every_seconds=-1.5), ValueError, "needs every_seconds > 0, got every_seconds=-1.5."),
        (dict(every_seconds=float("nan")), ValueError, "> 0, got every_seconds=nan."),
        (dict(every_seconds=float("inf")), ValueError, "> 0, got every_seconds=inf."),
        (dict(every_seconds="60"), TypeError, "a number as every_seconds, got every_seconds='60'."),
        (dict(every_seconds=True), TypeError, "a number as every_seconds, got every_seconds=True."),
        (dict(every_steps=0), ValueError, "needs every_steps >= 1, got every_steps=0."),
        (dict(every_steps=2.0), TypeError, "an integer every_steps, got every_steps=2.0."),
        (dict(keep=0), ValueError, "Checkpoint needs keep >= 1, got keep=0."),
        (dict(keep=None), TypeError, "Checkpoint needs an integer keep, got keep=None."),
        (dict(resume=True), ValueError, "'auto', 'must' or 'never', got resume=True."),
        (dict(resume="yes"), ValueError, "'auto', 'must' or 'never', got resume='yes'."),
        (dict(signals=signal.SIGTERM), TypeError, "such as signals=(signal.SIGTERM,), got"),
        (dict(signals=("TERM",)), TypeError, "needs signals of the module signal"),
        (dict(signals=(99,)), TypeError, "needs signals of the module signal"),
        (dict(signals=(signal.SIGKILL,)), ValueError, "than SIGKILL, which has no handler."),
        (dict(signals=(signal.SIGINT,)), ValueError, "than SIGINT, which is Ctrl-C, upon which"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(given, error, message):
    with pytest.raises(error) as raised:
        Checkpoint(**{"directory": "run"} | given)
    assert message in str(raised.value)


def test_numbers_of_numpy_are_options():
    options = Checkpoint(
        "run", every_seconds=np.float32(1), every_steps=np.int64(3), keep=np.int8(1)
    )
    assert (options.every_steps, options.keep) == (3, 1)
    assert Checkpoint("run", every_seconds=None).every_seconds is None


@pytest.mark.parametrize("given", [3, "", b"run", ["run"]], ids=repr)
def test_what_is_no_checkpoint_is_refused(given):
    with pytest.raises(TypeError, match="fit needs a Checkpoint or a path as checkpoint, got"):
        run(given)


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    run(tmp_path)
    before = files(tmp_path)
    with (
        folder.locked(tmp_path, "fit"),
        pytest.raises(RuntimeError, match=rf"in which process {os.getpid()} on .* writes\."),
    ):
        run(tmp_path, num_epochs=3)
    assert files(tmp_path) == before
    assert run(tmp_path, num_epochs=3).resumed_from == 8


def test_the_lock_dies_with_its_owner(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; "
        "from jaxopt_tut.training.checkpoints import folder\n"
        "with folder.locked(Path(sys.argv[1]), 'fit'): print('held', flush=True); time.sleep(100)"
    )
    child = subprocess.Popen([sys.executable, "-c", hold, tmp_path], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(RuntimeError, match=rf"in which process {child.pid} on .* writes\."):
        run(tmp_path)
    child.kill()
    child.wait()
    child.stdout.close()
    assert run(tmp_path).resumed_from is None


OTHERS = {
    "key": (dict(key=jax.random.key(1)), "whose key is another one."),
    "batch size": (dict(batch_size=4), "whose batch size is 3, not 4."),
    "examples": (dict(data=X[:11]), "whose number of examples is 12, not 11."),
    "data": (dict(data=X + (X[7] == X)), "whose data is another one."),
    "dtype of the data": (dict(data=X.astype(np.float16)), "whose data is another one."),
    "accumulation": (dict(accumulate=3), "whose number of micro-batches is 1, not 3."),
    "evaluation": (dict(evaluate=lambda _: {"loss": 1.0}), "whose evaluation is False, not True."),
    "shape": (dict(params={"w": jnp.zeros((2, 1))}), "float32[2, 1] at 'params/w', got float32[2]"),
    "tree": (dict(params={"w": jnp.zeros(2), "b": jnp.zeros(1)}), "with the leaf 'params/b', got"),
    "dtype": (dict(params={"w": jnp.zeros(2, jnp.float16)}), "float16[2] at 'params/w', got float"),
    "state": (dict(model_state=jnp.zeros(1)), "the leaf 'model_state'"),
    "epochs": (dict(num_epochs=1), "needs num_epochs >= 2 to resume from"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_folder_of_another_run_is_refused_and_left_alone(name, tmp_path):
    run(tmp_path)
    before = files(tmp_path)
    more, message = OTHERS[name]
    if "model_state" in more:
        stateful = lambda params, batch, state: (loss_fn(params, batch), {"state": state})
        call = lambda: fit(
            lambda *args: (stateful(*args)[0], __import__("jaxopt_tut").training.Aux({}, args[2])),
            {"w": jnp.zeros(2)}, SGD, X, checkpoint=tmp_path, batch_size=3, num_epochs=2,
            key=jax.random.key(0), progress=False, **more,
        )  # fmt: skip
    else:
        call = lambda: run(tmp_path, **more)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        call()
    assert message in str(raised.value)
    assert files(tmp_path) == before


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "partial_save_of_thesis").mkdir()
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"or an empty one, got .* with other files: give it one"):
        run(tmp_path)
    assert files(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["partial_save_of_thesis", "thesis.tex"]


def test_nothing_is_deleted_that_was_not_written_here(tmp_path):
    directory = tmp_path / "run"
    run(directory)
    for at in folder.checkpoints_in(directory):
        (directory / str(at) / "notes.txt").write_text("mine")
    (directory / "plot.png").write_bytes(b"mine")
    (directory / "partial_save_of_thesis").mkdir()
    (directory / "partial_save_000099_step_7").mkdir()
    (directory / "partial_save_000099_step_7" / "mine").write_text("mine")
    run(Checkpoint(directory, every_steps=1, keep=1), num_epochs=4)
    kept = [
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    ]
    assert sum(at.endswith("notes.txt") for at in kept) == 1
    assert {"plot.png", "left_partial_save_000099_step_7/mine"} <= set(kept)
    assert (directory / "partial_save_of_thesis").is_dir()
    assert len(folder.checkpoints_in(directory)) == 1


@pytest.mark.parametrize("at", ["file", "file/run"], ids=str)
def test_a_folder_that_cannot_be_made_is_named(at, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"fit needs a folder to write to, got '.*file.*': [FN]"):
        run(tmp_path / at)


def test_a_folder_that_is_read_only_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):  # the superuser, who may run this, writes anywhere
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ValueError, match=r"a folder to write to, got '.*': Permission denied\."):
        run(tmp_path)


def test_resume_says_what_is_meant(tmp_path):
    with pytest.raises(ValueError, match=r"needs a checkpoint with resume='must', got none in"):
        run(Checkpoint(tmp_path, resume="must"))
    first = run(Checkpoint(tmp_path, resume="never"))
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"resume='never', got one at step 8 in"):
        run(Checkpoint(tmp_path, resume="never"))
    assert files(tmp_path) == before
    assert_same(run(Checkpoint(tmp_path, resume="must")).params, first.params)


def test_the_folder_of_another_optimizer_is_refused(tmp_path):
    given = dict(batch_size=3, num_epochs=2, key=jax.random.key(0), progress=False)
    momentum = optax.sgd(0.1, momentum=0.9)
    for first, other, leaf in ((momentum, SGD, "without"), (SGD, momentum, "with")):
        folder = tmp_path / leaf
        fit(loss_fn, {"w": jnp.zeros(2)}, first, X, checkpoint=folder, **given)
        with pytest.raises(ValueError, match=rf"checkpoint {leaf} the leaf 'opt_state/0/trace/w'"):
            fit(loss_fn, {"w": jnp.zeros(2)}, other, X, checkpoint=folder, **given)


def damage(directory, name):
    path = directory / str(name) / "state.json"
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path):
    undisturbed = run(None)
    run(Checkpoint(tmp_path, every_steps=3))
    newest, before = folder.checkpoints_in(tmp_path)
    damage(tmp_path, newest)
    events = []
    with pytest.warns(UserWarning, match=rf"fit resumes from step {before.step}: the checkpoint"):
        result = run(tmp_path, on_event=events.append)
    assert result.resumed_from == before.step
    assert len(result.warnings) == 1
    assert f"it is kept as 'damaged_{newest}'" in result.warnings[0]
    assert [event.message for event in events if event.kind == "warning"] == [*result.warnings]
    assert_same(result.history, undisturbed.history)
    assert (tmp_path / f"damaged_{newest}").is_dir()
    assert run(tmp_path).warnings == ()


@pytest.mark.parametrize("resume", ["auto", "must", "never"])
def test_where_all_checkpoints_are_damaged_nothing_is_begun_anew(resume, tmp_path):
    run(Checkpoint(tmp_path, every_steps=3))
    for name in folder.checkpoints_in(tmp_path):
        damage(tmp_path, name)
    before = files(tmp_path)
    error = ValueError if resume == "never" else DamagedCheckpoint
    with pytest.raises(error, match=r"without checkpoints|whole, got 2 in .*begun anew"):
        run(Checkpoint(tmp_path, resume=resume))
    assert files(tmp_path) == before


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    run(tmp_path)
    name = folder.checkpoints_in(tmp_path)[0]
    half = tmp_path / f"partial_{name._replace(number=9)}"
    shutil.copytree(tmp_path / str(name), half)
    shutil.move(half / "arrays", half / "arrays.orbax-checkpoint-tmp")
    assert run(tmp_path).resumed_from == 8
    assert not half.exists()


def test_a_full_disk_is_a_warning_and_tried_again(tmp_path, monkeypatch):
    undisturbed, sync, calls = run(None), folder.sync_tree, []

    def full_at_first(path):
        calls.append(path)
        if len(calls) <= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    monkeypatch.setattr(folder, "sync_tree", full_at_first)
    events = []
    with pytest.warns(UserWarning, match=r"could not save step [24] in .*No space left on device"):
        result = run(Checkpoint(tmp_path, every_steps=2), on_event=events.append)
    assert len(result.warnings) == 2
    assert [event.step for event in events if event.kind == "checkpoint"] == [6, 8, 8]
    assert [name.step for name in folder.checkpoints_in(tmp_path)] == [8, 8]
    assert not [at for at in os.listdir(tmp_path) if at.startswith("partial")]
    assert_same(result.params, undisturbed.params)


# orbax closes its event loop while other arrays are still being written
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_orbax_cannot_write_is_a_warning(tmp_path):
    # a limit on the size of files: what the operating system says, through orbax, at some of them
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    params = {"w": jnp.zeros(2), "large": jnp.asarray(np.random.default_rng(0).normal(size=20000))}
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.warns(UserWarning, match="could not save step 8 in .*File too large"):
            result = run(tmp_path, params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.message == "Finished 2 epochs."
    assert os.listdir(tmp_path) == ["jaxopt_tut.lock"]


def test_a_folder_that_is_gone_is_a_warning(tmp_path):
    directory = tmp_path / "run"
    remove = lambda event: event.kind == "epoch" and shutil.rmtree(directory, ignore_errors=True)
    with pytest.warns(UserWarning, match="could not save step 8 in .*No such file or directory"):
        result = run(directory, on_event=remove)
    assert result.message == "Finished 2 epochs."


def test_a_mistake_of_ours_is_no_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(store.codec, "encode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path)


def raising(number, at):
    """Send a signal to this process after an epoch."""
    return lambda event: (
        signal.raise_signal(number) if (event.kind, event.epoch) == ("epoch", at) else None
    )


def test_a_signal_saves_and_exits(tmp_path):
    undisturbed, events = run(None), []
    handler = signal.getsignal(signal.SIGTERM)
    options = Checkpoint(tmp_path, signals=(signal.SIGTERM, signal.SIGUSR1))
    for number, epoch in ((signal.SIGTERM, 1), (signal.SIGUSR1, 2)):
        on_event = lambda event, n=number, e=epoch: (events.append(event), raising(n, e)(event))
        with pytest.raises(SystemExit) as raised:
            run(options, on_event=on_event)
        assert raised.value.code == 128 + number
    assert signal.getsignal(signal.SIGTERM) == handler
    assert [event.step for event in events if event.kind == "checkpoint"] == [4, 8]
    resumed = run(options)
    assert resumed.resumed_from == 8
    assert_same(resumed.history, undisturbed.history)


def test_the_second_signal_does_what_it_would_have_done(tmp_path):
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: received.append(number))

    def twice(event):
        if (event.kind, event.epoch) == ("epoch", 1):
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)

    try:
        with pytest.raises(SystemExit):
            run(Checkpoint(tmp_path, signals=(signal.SIGUSR1,)), on_event=twice)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]


def test_ctrl_c_saves_nothing_half_done(tmp_path):
    undisturbed = run(None, num_epochs=3)
    options = Checkpoint(tmp_path, every_steps=3)
    interrupted = run(options, num_epochs=3, on_event=raising(signal.SIGINT, 2))
    assert interrupted.message.startswith("Interrupted in epoch 2")
    assert [name.step for name in folder.checkpoints_in(tmp_path)] == [6, 3]
    resumed = run(options, num_epochs=3)
    assert resumed.resumed_from == 6
    assert_same(resumed.history, undisturbed.history)
    assert_same(resumed.params, undisturbed.params)


def test_signals_are_left_alone_outside_of_the_main_thread(tmp_path):
    results = []
    options = Checkpoint(tmp_path, signals=(signal.SIGTERM,))
    thread = threading.Thread(target=lambda: results.append(run(options)))
    thread.start()
    thread.join()
    assert results[0].message == "Finished 2 epochs."


def test_only_the_newest_are_kept(tmp_path):
    run(Checkpoint(tmp_path, every_steps=1, keep=3))
    assert [name.step for name in folder.checkpoints_in(tmp_path)] == [8, 8, 7]


def test_by_the_clock_nothing_is_saved_before_its_time(tmp_path):
    events = []
    run(Checkpoint(tmp_path, every_seconds=3600.0), on_event=events.append)
    assert [event.step for event in events if event.kind == "checkpoint"] == [8]
    shutil.rmtree(tmp_path)
    events.clear()
    run(Checkpoint(tmp_path, every_seconds=1e-9), on_event=events.append)
    assert len([event for event in events if event.kind == "checkpoint"]) >= 2


def test_without_an_interval_the_end_alone_is_saved(tmp_path):
    run(Checkpoint(tmp_path, every_seconds=None))
    assert [name.step for name in folder.checkpoints_in(tmp_path)] == [8]


def test_home_and_relative_paths_are_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    run("~/run")
    run("here/run")
    assert folder.checkpoints_in(tmp_path / "home" / "run")
    assert folder.checkpoints_in(tmp_path / "here" / "run")


def test_no_epochs_leave_no_checkpoint(tmp_path):
    assert run(tmp_path, num_epochs=0).resumed_from is None
    assert folder.checkpoints_in(tmp_path) == []
