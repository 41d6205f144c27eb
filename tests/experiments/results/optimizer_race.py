"""Results of `optimizer_race`: one as it should be, then falsified ones."""

import dataclasses

import numpy as np

from experiments.training import optimizer_race
from jaxopt_tut.training import RaceTable


def race_of(ratio):
    """Make a race on four problems in which the second optimizer takes `ratio` times the steps."""
    rng = np.random.default_rng(0)
    steps = np.arange(10, 310, 10)
    arrival = (
        rng.uniform(60, 90, (2, 4, 1, 12, 1)) * np.array([1.0, ratio])[:, None, None, None, None]
    )
    losses = (2.0 - steps / arrival).astype(np.float32)
    return RaceTable(
        optimizers=("A", "B"), problems=("p", "q", "r", "s"), learning_rates=np.full((2, 1), 0.1),
        seeds=np.arange(12), steps=steps, losses=losses, training_losses=losses,
        targets=np.ones(4), seconds_per_step=np.full((2, 4), np.nan),
        default_rates=np.full(2, -1),
    )  # fmt: skip


def results():
    table = race_of(1.5)
    over = table.compare(over="problems")
    wide = np.array([[0.5, 1.0], [0.0, 0.9]])
    confidence = dataclasses.replace(table.confidence(num_draws=50), over_problems=wide)
    good = optimizer_race.Result(table, table.compare(), over, confidence)
    yield good
    yield good._replace(seeds=race_of(1.0).compare())
    sure = np.array([[1.0, 0.01], [0.01, 1.0]])
    yield good._replace(problems=dataclasses.replace(over, adjusted=sure))
    narrow = np.array([[0.99, 0.99], [0.1, 0.1]])
    yield good._replace(
        confidence=dataclasses.replace(
            confidence, over_problems=narrow, given_problems=np.array([[0.8, 1.0], [0.0, 0.3]])
        )
    )
