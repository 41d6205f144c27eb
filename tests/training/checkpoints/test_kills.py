"""Runs that are killed by the operating system end as if they had not been."""

import csv
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.training.checkpoints import runs

LIFE = (sys.executable, "-m", "tests.training.checkpoints.runs")


def events_of(log):
    """Return the events so far; the last line may be half written."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def killed_life(arguments, log, wait):
    """Start a life and kill it some time after its first step; tell whether it had ended before."""
    begun = len(events_of(log))
    life = subprocess.Popen([*LIFE, *arguments], stdout=subprocess.PIPE, text=True)
    while life.poll() is None and len(events_of(log)) == begun:
        time.sleep(0.01)
    time.sleep(wait)
    life.kill()  # this child, by its own id
    output, _ = life.communicate()
    return output


def check_kills(kind, kills, directory, seed, longest=0.7):
    log = directory / "log"
    undisturbed = runs.live(kind, "none", directory / "undisturbed")
    arguments, rng = (kind, directory / "run", log), np.random.default_rng(seed)
    for _ in range(kills):
        before = events_of(log)
        assert killed_life(arguments, log, rng.uniform(0.0, longest)) == "", (
            "it ended before the kill"
        )
        new = events_of(log)[len(before) :]
        committed = [step for name, _, step in before if name == "checkpoint"]
        assert new[0][0] == ("resume" if committed else "start") or not committed
        # no more is lost than since the last save that was committed
        assert new[0][2] >= max(committed, default=0)
    last = subprocess.run([*LIFE, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    assert last.stdout.split()[-1] == runs.digest(undisturbed)
    assert last.stdout.startswith(undisturbed.message)
    with open(f"{log}.csv", encoding="utf-8", newline="") as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == list(range(1, len(undisturbed.history.train["loss"]) + 1))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("resident", 7), ("streamed", 7), ("whole", 6)])
def test_a_run_that_is_killed_again_and_again_is_the_undisturbed_one(kind, kills, tmp_path):
    check_kills(kind, kills, tmp_path, seed=1)


def test_a_run_that_is_killed_three_times_is_the_undisturbed_one(tmp_path):
    check_kills("resident", 3, tmp_path, seed=2, longest=0.3)
