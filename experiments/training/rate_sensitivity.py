"""A learning rate far too large costs SGD more than one that is as much too small.

Question: What does a learning rate cost that is wrong by a decade?

Claim: a decade and a half above its best rate the loss of SGD is several times that a decade and a
half below; for Adam the two are about equal, and the difference between the optimizers is beyond
the scatter of the seeds. What is not so: that the best rate of Adam is the steadier one from
problem to problem. The decades between the best rates on these problems do not differ.

Why: Rates are rarely tuned well. For SGD a doubtful one had better be too small; for Adam the side
hardly matters.

Source: UvA tutorial 4, which takes one rate for each optimizer; Schmidt, Schneider and Hennig
(2021), https://arxiv.org/abs/2007.01547.
Section: A7.
Command: python -m experiments rate_sensitivity
Expected: log loss of rates too large over too small: SGD 1.9, momentum .5, Adam -.1; decades
between the best rates .5 to 1 for all three
Time: 20 s, or 1 s behind optimizer_race in one process; with --whole, six problems, 21 rates and 20
seeds, 2 minutes.
"""

import dataclasses
import sys
from typing import NamedTuple

import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from experiments.training._entrants import raced
from jaxopt_tut.plotting import new_figure, plot_rate_sensitivity
from jaxopt_tut.plotting.style import legend_below
from jaxopt_tut.training import RaceTable, problems

NAMES = ("SGD", "momentum", "Adam")
OFF = 1.5
"""Decades from the best rate to those that are too small or too large."""


@dataclasses.dataclass(frozen=True)
class Config:
    """On what, at how many rates and how often."""

    kinds: tuple[str, ...] = (
        "noisy_quadratic",
        "logistic_regression",
        "relu_network",
        "autoencoder",
    )
    num_rates: int = 11
    num_seeds: int = 12
    num_steps: int = 300
    num_draws: int = 1000

    def quick(self) -> "Config":
        kinds = ("noisy_quadratic", "logistic_regression")
        return dataclasses.replace(self, kinds=kinds, num_steps=200, num_draws=200)

    def whole(self) -> "Config":
        kinds = tuple(problem.name for problem in problems.toy_six())
        return dataclasses.replace(self, kinds=kinds, num_rates=21, num_seeds=20)


class Result(NamedTuple):
    """Of bootstrap draws of the seeds, the first one the seeds themselves."""

    table: RaceTable
    spread: np.ndarray
    """Decades between the best rates on the problems, of shape (draws, optimizers)."""
    off: np.ndarray
    """Log loss of rates too large over that of rates too small, mean over the problems."""


def run(config: Config) -> Result:
    table = raced(NAMES, config.kinds, config.num_rates, config.num_seeds, config.num_steps)
    rng = np.random.default_rng(0)
    draws = rng.integers(config.num_seeds, size=(config.num_draws, config.num_seeds))
    draws[0] = np.arange(config.num_seeds)
    log_rates = np.log10(table.learning_rates[0])
    final = table.losses[..., -1].astype(float)
    rows = [measure(np.median(final[..., seeds], axis=-1), log_rates) for seeds in draws]
    spread, off = (np.stack(column) for column in zip(*rows, strict=True))
    return Result(table, spread, off)


def measure(losses: np.ndarray, log_rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two numbers of `Result` from median losses (optimizers, problems, rates)."""
    # what has diverged has the worst finite loss: the steepness beyond is not the question
    worst = np.max(np.where(np.isfinite(losses), losses, -np.inf), axis=(0, 2), keepdims=True)
    losses = np.minimum(losses, worst)
    best = losses.argmin(axis=-1)
    spread = log_rates[best].max(axis=1) - log_rates[best].min(axis=1)
    shift = round(OFF / (log_rates[1] - log_rates[0]))
    index = lambda k: np.clip(k, 0, len(log_rates) - 1)[..., None]
    too_large = np.take_along_axis(losses, index(best + shift), axis=-1)[..., 0]
    too_small = np.take_along_axis(losses, index(best - shift), axis=-1)[..., 0]
    return spread, np.log(too_large / too_small).mean(axis=1)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a bootstrap."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def check(result: Result) -> list[Claim]:
    sgd, _, adam = range(len(NAMES))
    apart = interval(result.spread[:, sgd] - result.spread[:, adam])
    steeper = interval(result.off[:, sgd] - result.off[:, adam])
    text = "log loss of rates too large over too small"
    return [
        at_least(
            f"SGD, {text}: lower end of 95 %",
            interval(result.off[:, sgd])[0],
            0.0,
            headline=True,
        ),
        at_least(f"SGD minus Adam, {text}: lower end of 95 %", steeper[0], 0.0),
        at_most("SGD minus Adam, decades between best rates: lower end of 95 %", apart[0], 0.0),
    ]


def plot(result: Result):
    kinds = result.table.problems
    figure = new_figure(3.2 * len(kinds), 3.8)
    sensitivity = result.table.sensitivity()
    panels = np.ravel(figure.subplots(1, len(kinds)))
    for ax, kind in zip(panels, kinds, strict=True):
        title = kind.replace("_", " ")
        plot_rate_sensitivity(sensitivity, kind, quantity="loss", title=title, ax=ax)
        ax.set_title(title, fontsize="medium")
        ax.get_legend().remove()
        ax.set_ylabel("final loss" if ax is panels[0] else "")
    legend_below(panels[0])
    figure.suptitle(
        "Too large a rate costs SGD more than too small a one; curves end where runs diverge "
        f"(medians and their {sensitivity.coverage:.0%} intervals)",
        fontsize="medium",
    )
    return {"rates": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
