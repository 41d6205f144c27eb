"""With up to five seeds an exact test at 5 % never tells two optimizers apart.

Question: How many seeds does a comparison of two optimizers need?

Claim: two optimizers whose times to the target differ by a factor are compared by paired sign flips
on one problem, with the noise that SGD and momentum show on a small ReLU network. (1) The smallest
p value of n seeds is 2 to the power 1 - n: with 5 no difference whatever is found at 5 %, and among
the 66 pairs of 12 optimizers (Holm) none with 11. (2) Beyond that the seeds needed for a power of
80 % are those of the formula for normal variables, (1.96 + 0.84)^2 times the variance of the log
ratio over its square. (3) Sharing start and batches between optimizers is worth as many seeds
again: the variance of paired differences is half of that of others.

Why: With five seeds an exact test at 5 % can never be significant, whatever the runs say. The
number that is needed can be counted before the first run.

Source: beyond the tutorials, whose comparisons (UvA tutorial 4) have one seed; Fisher (1935), The
Design of Experiments, section 21; Colas et al. (2018), arXiv:1806.08295.
Section: beyond A7.
Command: python -m experiments how_many_seeds
Expected: power 0 with 5 seeds, with 11 for 66 pairs; 10 % take 21 seeds, 20 % take 8, 50 % take 6;
pairing leaves half of the variance.
Time: 7 s; with --whole, of 400 runs and 1000 races, 16 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import numpy as np

from experiments._claims import Claim, at_least, at_most, between
from experiments._runner import run_script
from jaxopt_tut.optimizers import momentum, sgd
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.training import problems, race
from jaxopt_tut.training.races import sign_flip_p_values

LEVEL, NUM_PAIRS, POWER = 0.05, 66, 0.8
NORMAL_QUANTILES = 1.95996 + 0.84162
"""Of the level, two-sided, and of the power."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How many runs the noise is taken from, and how many comparisons are drawn."""

    num_runs: int = 80
    num_steps: int = 200
    num_races: int = 200
    seeds: tuple[int, ...] = (3, 5, 6, 8, 10, 11, 12, 14, 17, 20, 24, 32)
    factors: tuple[float, ...] = (1.1, 1.2, 1.5)

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_races=50, num_steps=150, seeds=(5, 6, 11, 12, 20, 28))

    def whole(self) -> "Config":
        return dataclasses.replace(self, num_runs=400, num_races=1000)


class Result(NamedTuple):
    """Powers have the shape (factors, seeds)."""

    seeds: np.ndarray
    factors: np.ndarray
    alone: np.ndarray
    """Power of a single comparison."""
    among: np.ndarray
    """Power where it is the first of 66."""
    paired: float
    """Variance of the log ratio of times with shared starts and batches."""
    unpaired: float
    """The same with others."""


def run(config: Config) -> Result:
    found = race(
        {"sgd": sgd, "momentum": momentum},
        problems.relu_network(),
        learning_rates=[0.1],
        seeds=config.num_runs,
        steps=config.num_steps,
        key=jax.random.key(0),
        time_steps=False,
        progress=False,
    )
    times = np.log(np.minimum(found.crossings()[:, 0, 0], config.num_steps))
    noise = times[0] - times[1]
    noise = noise - noise.mean()
    rng = np.random.default_rng(0)
    shape = len(config.factors), len(config.seeds)
    alone, among = np.zeros(shape), np.zeros(shape)
    for (f, n), _ in np.ndenumerate(alone):
        drawn = rng.choice(noise, (config.num_races, config.seeds[n]))
        p_values = sign_flip_p_values(drawn + np.log(config.factors[f]))
        alone[f, n] = np.mean(p_values <= LEVEL)
        among[f, n] = np.mean(NUM_PAIRS * p_values <= LEVEL)
    return Result(
        np.array(config.seeds),
        np.array(config.factors),
        alone,
        among,
        float(noise.var(ddof=1)),
        float(times.var(axis=1, ddof=1).sum()),
    )


def first_with(powers: np.ndarray, seeds: np.ndarray) -> float:
    """Return the number of seeds from which on the power is reached, between those tried."""
    below = np.flatnonzero(powers < POWER)
    if len(below) == 0:
        return float(seeds[0])
    last = below[-1]
    if last + 1 == len(seeds):
        return float("inf")
    share = (POWER - powers[last]) / (powers[last + 1] - powers[last])
    return float(seeds[last] + share * (seeds[last + 1] - seeds[last]))


def check(result: Result) -> list[Claim]:
    few, fewer = result.seeds <= 5, result.seeds <= 11
    enough = result.seeds >= 12
    small = first_with(result.alone[0], result.seeds)
    formula = NORMAL_QUANTILES**2 * result.paired / np.log(result.factors[0]) ** 2
    return [
        at_most("up to 5 seeds: power", result.alone[:, few].max(), 0.0, headline=True),
        at_most("66 pairs, up to 11 seeds: power", result.among[:, fewer].max(), 0.0),
        # 12 seeds must all agree. A difference of log 1.5 is 2.6 standard deviations of .155: each
        # has its sign with a chance of .9953, all of them .945; 200 races know that to .016.
        at_least("66 pairs, 12 seeds: power for 50 %", result.among[-1, enough][0], 0.89),
        # 200 races know the power to 3 %, that is to two seeds where it is steepest, and the noise
        # of 80 runs is known to 16 %.
        between("10 %: seeds for a power of 80 %", small, 0.75 * formula, 1.3 * formula),
        # Correlations of .4 to .6 between runs of one seed, with a standard error of .1.
        at_most("variance of paired over other differences", result.paired / result.unpaired, 0.75),
    ]


def plot(result: Result):
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, powers, title, least in (
        (left, result.alone, "One comparison at 5 %", 6),
        (right, result.among, "The first of 66 pairs, Holm at 5 %", 12),
    ):
        lines = {f"{f:g} times slower": p for f, p in zip(result.factors, powers, strict=True)}
        plot_lines(result.seeds, lines, xlabel="seeds", ylabel="power", title="", ax=ax)
        ax.set_title(f"{title}: below {least} seeds (dotted)\nnothing is found", fontsize="medium")
        ax.axvline(least, color="0.5", linestyle=":", linewidth=1)
        ax.axhline(POWER, color="0.8", linewidth=1)
        ax.set_ylim(-0.02, 1.02)
    right.set_ylabel("")
    return {"power": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
