"""The progress line shows on a terminal only."""

import io
import sys

from jaxopt_tut.training.progress import ProgressLine


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
