"""Beyond the problems that were run, an exact test finds no optimizer faster than another.

Question: Is one optimizer faster than another, on given problems and on problems in general?

Claim: at its best rate, chosen on half of the seeds and judged on the others, from the same starts
on the same batches, one of SGD, momentum and Adam is faster than another on these problems: exact
sign flips, adjusted for the number of pairs, leave no doubt. Over problems nothing is decided:
with the problems drawn anew, too, the interval of the leader's score reaches into those of others
and is far wider than given the problems, and no outcome of a test of so few problems could name a
winner, not even one that leads on each of them.

Why: These are two questions with two answers. Certainty about a handful of problems is not
certainty about the next one, and only the second would name a winner.

Source: UvA tutorial 4, comparison of optimizers, whose two versions print two orders; Dahl et al.
(2023), https://arxiv.org/abs/2306.07179, on scores.
Section: A7.
Command: python -m experiments optimizer_race
Expected: smallest adjusted p given these problems .0002 (Adam before SGD, 1.4 times as
fast), over problems .38, which is the least there can be; intervals over problems 1.8 times as wide
Time: 20 s; with --whole, 12 optimizers, six problems, 20 rates and 20 seeds, 10 minutes.
"""

import dataclasses
import sys
from typing import NamedTuple

import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from experiments.training._entrants import ENTRANTS, raced
from jaxopt_tut.plotting import (
    new_figure,
    plot_comparison,
    plot_performance_profiles,
    plot_scores,
)
from jaxopt_tut.training import RaceTable, problems
from jaxopt_tut.training.races import Comparison, Confidence

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Config:
    """Who races on what, and how often."""

    optimizers: tuple[str, ...] = ("SGD", "momentum", "Adam")
    kinds: tuple[str, ...] = (
        "noisy_quadratic",
        "logistic_regression",
        "relu_network",
        "autoencoder",
    )
    num_rates: int = 11
    num_seeds: int = 12
    num_steps: int = 300

    def quick(self) -> "Config":
        kinds = ("noisy_quadratic", "logistic_regression")
        return dataclasses.replace(self, kinds=kinds, num_steps=200)

    def whole(self) -> "Config":
        kinds = tuple(problem.name for problem in problems.toy_six())
        names = tuple(ENTRANTS)
        return dataclasses.replace(self, optimizers=names, kinds=kinds, num_rates=20, num_seeds=20)


class Result(NamedTuple):
    """The race, and what it says about these problems and about others."""

    table: RaceTable
    seeds: Comparison
    problems: Comparison
    confidence: Confidence


def run(config: Config) -> Result:
    table = raced(
        config.optimizers, config.kinds, config.num_rates, config.num_seeds, config.num_steps
    )
    return Result(
        table, table.compare(), table.compare(over="problems"), table.confidence(num_draws=1000)
    )


def check(result: Result) -> list[Claim]:
    pairs = ~np.eye(len(result.seeds.optimizers), dtype=bool)
    width = lambda intervals: np.mean(np.diff(intervals, axis=-1))
    confidence = result.confidence
    leader = int(np.argmax(confidence.scores))
    given, over = width(confidence.given_problems), width(confidence.over_problems)
    return [
        at_most(
            "given these problems: smallest adjusted p", result.seeds.adjusted[pairs].min(), LEVEL
        ),
        # nothing to be found where no outcome could be: the smallest p times the number of pairs
        at_least(
            "over problems: smallest adjusted p",
            result.problems.adjusted[pairs].min(),
            LEVEL,
            headline=True,
        ),
        at_most(
            "over problems: least score of the leader's interval, over the most of any other's",
            confidence.over_problems[leader, 0]
            / np.delete(confidence.over_problems, leader, 0).max(),
            1.0,
        ),
        at_least("width of the intervals over problems, over that given them", over / given, 1.0),
    ]


def plot(result: Result):
    leader = result.confidence.optimizers[int(np.argmax(result.confidence.scores))]
    profiles = result.table.profiles()
    drawn = {
        "profiles": (
            plot_performance_profiles,
            profiles,
            f"{leader} is near the fastest most often",
        ),
        "scores": (
            plot_scores,
            result.confidence,
            f"Over problems {leader}'s interval reaches into others",
        ),
        "comparison": (plot_comparison, result.seeds, "On these problems there are differences"),
    }
    figures = {}
    for name, (draw, found, title) in drawn.items():
        figures[name] = new_figure(7, 4)
        draw(found, title=title, ax=figures[name].subplots())
    return figures


if __name__ == "__main__":
    run_script(sys.modules[__name__])
