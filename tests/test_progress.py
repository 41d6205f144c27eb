"""The progress line is rewritten on a terminal; elsewhere there is a line an epoch."""

import io
import sys

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxopt_tut import progress
from jaxopt_tut.progress import ProgressLine
from jaxopt_tut.training import fit


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_shows_epoch_metrics_and_time_left(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    line = ProgressLine(4, enabled=True)
    line.show(1, {"loss": 0.25})
    line.close()
    assert "epoch 1/4  loss 0.25" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


def test_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    line = ProgressLine(4, enabled=False)
    line.show(1, {})
    line.close()
    assert terminal.getvalue() == ""


class Closed(Terminal):
    def isatty(self):
        raise ValueError("I/O operation on closed file")


class Breaking(Terminal):
    def write(self, _):
        raise BrokenPipeError


class Ascii(Terminal):
    encoding = "ascii"

    def write(self, text):
        return super().write(text.encode("ascii").decode())


@pytest.mark.parametrize("stream", [None, object(), Closed(), Breaking(), Ascii()])
def test_a_stream_that_shows_nothing_ends_no_run(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    line = ProgressLine(2, enabled=True)
    for epoch in (1, 2):
        line.show(epoch, {"loss": 0.25, "Güte": 0.5})
    line.close()
    if isinstance(stream, Ascii):
        assert "epoch 2/2  loss 0.25  G?te 0.5" in stream.getvalue()


@pytest.mark.parametrize("columns", [1, 20, 40, 60, 80, 300])
@pytest.mark.parametrize("num_metrics", [0, 1, 10])
def test_no_line_is_longer_than_the_terminal(monkeypatch, columns, num_metrics):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(progress, "_width", lambda _: columns)
    line = ProgressLine(4, enabled=True)
    line.show(1, {f"metric {n}": n / 3 for n in range(num_metrics)})
    shown = terminal.getvalue().removeprefix("\r").removesuffix("\033[K")
    assert len(shown) < columns
    if columns >= 60:
        assert shown.endswith("0 s left")


def test_the_training_loss_is_not_replaced_by_that_of_validation(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    fit(
        lambda w, batch: 0 * w * batch[0] + 0.25, 1.0, optax.sgd(0.1), jnp.ones(4),
        batch_size=2, num_epochs=1, key=jax.random.key(0),
        evaluate=lambda _: {"loss": 123.0, "accuracy": 0.5},
    )  # fmt: skip
    assert "loss 0.25  validation loss 123  accur" in terminal.getvalue()


def test_elsewhere_there_is_a_line_an_epoch(monkeypatch):
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    line = ProgressLine(2, enabled=True)
    line.show(1, {"loss": 0.25, "accuracy": 0.5})
    line.show(2, {})
    line.close()
    first, second = file.getvalue().splitlines()
    assert first.startswith("epoch 1/2  loss 0.25  accuracy 0.5  ")
    assert second == "epoch 2/2  0 s left"
    assert file.getvalue().isascii()
    assert "\r" not in file.getvalue()
