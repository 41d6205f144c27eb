"""`fit` tells what happens, and its log has one row an epoch whatever happened before."""

import csv
import math
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.training import Event, csv_log, events, fit, patience

X = jnp.linspace(-1.0, 1.0, 12)


def squared_error(w, x):
    loss = jnp.mean((w * x - 3 * x) ** 2)
    return loss, {"root": jnp.sqrt(loss)}


def run(on_event, loss_fn=squared_error, **options):
    options = {"num_epochs": 3, "key": jax.random.key(0), "progress": False, **options}
    start = options.pop("start", 0.0)
    return fit(
        loss_fn, jnp.array(start), optax.sgd(0.5), X, batch_size=4, on_event=on_event, **options
    )


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_a_list_gets_what_the_history_has(steps_per_call):
    told = []
    result = run(
        told.append, evaluate=lambda w: {"loss": w, "gap": 3 - w}, steps_per_call=steps_per_call
    )
    assert [event.kind for event in told] == ["start", "epoch", "epoch", "epoch", "end"]
    assert [event.epoch for event in told] == [0, 1, 2, 3, 3]
    assert [event.step for event in told] == [0, 3, 6, 9, 9]
    epochs = [event.metrics for event in told if event.kind == "epoch"]
    for name in ("loss", "root"):
        np.testing.assert_array_equal([e[name] for e in epochs], result.history.train[name])
    for name in ("loss", "gap"):
        column = [e[f"validation_{name}"] for e in epochs]
        np.testing.assert_array_equal(column, result.history.validation[name])
    seconds = [event.seconds for event in told]
    assert [0.0, *seconds] == sorted([0.0, *seconds])
    assert [event.metrics for event in (told[0], told[-1])] == [{}, {}]
    assert told[-1].message == result.message == "Finished 3 epochs."


def test_the_parameters_do_not_depend_on_who_listens():
    assert run([].append).params == run(None).params


def test_a_stop_is_told_before_the_end():
    told = []
    result = run(told.append, stop=lambda _: "enough")
    assert [event.kind for event in told] == ["start", "epoch", "stop", "end"]
    assert told[-2].message == told[-1].message == result.message


def test_an_epoch_that_cannot_be_finished_is_a_stop():
    told = []
    result = run(told.append, lambda w, x: jnp.mean(jnp.log(w - 1.0 * jnp.sum(x**2))), start=1.0)
    assert [event.kind for event in told] == ["start", "stop", "end"]
    assert (told[1].epoch, told[1].step) == (0, int(result.history.steps["loss"].size) - 1)
    assert "non-finite loss" in told[1].message == result.message


def test_parameters_that_are_not_finite_are_a_stop():
    told = []
    run(told.append, start=math.nan)
    assert [(event.kind, event.epoch, event.step) for event in told] == [
        ("start", 0, 0), ("stop", 0, 0), ("end", 0, 0)
    ]  # fmt: skip


def test_ctrl_c_is_a_stop_where_it_happened():
    told = []

    def interrupting(event):
        told.append(event)
        if event.kind == "epoch" and event.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    result = run(interrupting)
    assert [event.kind for event in told] == ["start", "epoch", "epoch", "stop", "end"]
    assert told[-1].step == 6
    assert "Interrupted in epoch 2" in told[-1].message == result.message
    assert result.history.train["loss"].shape == (2,)


def test_no_epochs_are_a_start_and_an_end():
    told = []
    run(told.append, num_epochs=0)
    assert [event.kind for event in told] == ["start", "end"]


@pytest.mark.parametrize("kind", ["start", "epoch", "stop", "end"])
def test_what_the_function_raises_ends_the_run(kind):
    told = []

    def failing(event):
        told.append(event.kind)
        if event.kind == kind:
            raise ConnectionError("the tracker is gone")

    with pytest.raises(ConnectionError, match="the tracker is gone"):
        run(failing, stop=lambda _: True)
    assert told[-1] == kind


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (3, TypeError, "fit needs a function as on_event, got int: csv_log"),
        (lambda: None, TypeError, r"fit calls on_event\(event\), got one of \(\): too many"),
        (csv_log, TypeError, r"fit needs csv_log\(path\) as on_event, got csv_log itself\."),
    ],
    ids=["number", "no argument", "not called"],
)
def test_what_cannot_listen_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        run(function)


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_log_reads_back_to_the_bit(tmp_path):
    path = tmp_path / "deep" / "log.csv"
    result = run(csv_log(path), evaluate=lambda w: {"loss": w})
    table = rows(path)
    assert [(row["epoch"], row["step"]) for row in table] == [("1", "3"), ("2", "6"), ("3", "9")]
    for name, column in result.history.train.items():
        assert [float(row[name]) for row in table] == column.tolist()
    validation = [float(row["validation_loss"]) for row in table]
    assert validation == result.history.validation["loss"].tolist()
    assert [file.name for file in path.parent.iterdir()] == ["log.csv"]


def test_another_run_starts_the_log_anew(tmp_path):
    log = csv_log(tmp_path / "log.csv")
    run(log)
    run(log, lambda w, x: jnp.mean((w - x) ** 2), num_epochs=1)
    assert [list(row) for row in rows(tmp_path / "log.csv")] == [
        ["epoch", "step", "seconds", "loss"]
    ]


def epoch_event(epoch, metrics):
    return Event("epoch", epoch, 3 * epoch, metrics, 0.5)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), names=st.permutations(["a", "b, c", 'd"', "e\nf", "epoch", "ä"]))
def test_after_any_kill_there_is_one_row_an_epoch(tmp_path_factory, data, names):
    """Of runs that are killed in any byte of their log and resume at or before what it holds."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    metrics = {e: dict.fromkeys(names[: 1 + e], e / 7) for e in range(1, 6)}  # columns come later
    log, resumed = csv_log(path), 0
    log(Event("start", 0, 0, {}, 0.0))
    for _ in range(data.draw(st.integers(0, 3))):
        killed = data.draw(st.integers(resumed, 5))
        for epoch in range(resumed + 1, killed + 1):
            log(epoch_event(epoch, metrics[epoch]))
        if killed > resumed:  # within the last row, which is appended
            last = len(path.read_bytes().decode().rsplit(f"\n{killed},", 1)[-1].encode())
            with path.open("r+b") as stream:
                stream.truncate(path.stat().st_size - data.draw(st.integers(0, last)))
        resumed = data.draw(st.integers(resumed, max(killed - 1, resumed)))
        log(Event("resume", resumed, 3 * resumed + 1, {}, 0.0))
    for epoch in range(resumed + 1, 6):
        log(epoch_event(epoch, metrics[epoch]))
    table = rows(path)
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4", "5"]
    for epoch, row in enumerate(table, start=1):
        for name in names:
            column = "metric_epoch" if name == "epoch" else name
            assert row.get(column, "") == str(metrics[epoch].get(name, ""))


@pytest.mark.parametrize(
    "content",
    [
        "name,epoch\n1,2\n",
        "my notes",
        "\x00\xff" * 30,
        "epoch,step,seconds of mine\n1,2,3\n",
        "epoch,step,secondsight,loss\n1,2,3,4\n",
        "epoch,step\n1,2\n",
        "\nepoch,step,seconds\n",
    ],
)
def test_a_file_of_someone_else_is_left_alone(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"csv_log needs a file of its own, got '.*', which"):
        run(csv_log(path))
    assert path.read_text(encoding="latin-1") == content


def test_a_path_that_can_be_no_file_is_named(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match=r"^csv_log needs a file, got '.*', which is a folder\.$"):
        run(csv_log(tmp_path))
    with pytest.raises(ValueError, match=r"^csv_log needs a folder to write to, got '.*notes': "):
        run(csv_log(tmp_path / "notes" / "log.csv"))
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_log_that_was_moved_away_is_begun_again(tmp_path):
    log = csv_log(tmp_path / "log.csv")
    log(Event("start", 0, 0, {}, 0.0))
    log(epoch_event(1, {"loss": 1.0}))
    (tmp_path / "log.csv").rename(tmp_path / "old.csv")
    log(epoch_event(2, {"loss": 2.0}))
    assert [row["epoch"] for row in rows(tmp_path / "log.csv")] == ["2"]


def test_a_full_disk_leaves_the_log_of_before(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    log = csv_log(path)
    log(Event("start", 0, 0, {}, 0.0))
    log(epoch_event(1, {"loss": 1.0}))
    before = path.read_text()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(events.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        log(epoch_event(2, {"loss": 1.0, "other": 2.0}))
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]


def test_patience_and_events_agree_on_the_epoch():
    told = []
    result = run(told.append, num_epochs=50, stop=patience(2))
    assert told[-1].epoch == result.history.train["loss"].size < 50
