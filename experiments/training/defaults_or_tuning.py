"""One default rate of the tutorials beats one rate drawn at random, one of PyTorch's loses to it.

Question: Is trying several optimizers at their defaults as good as tuning one of them?

Claim: k optimizers tried at their default rates are compared with one optimizer tried at k rates
drawn from a grid of five decades: the best is chosen on half of the seeds and judged on the others,
and means are over all subsets. One default of the tutorials ends at a lower loss than one rate
drawn. One of PyTorch's, whose rates for SGD and momentum are a hundredth, ends at a higher one, and
it takes nearly all optimizers to make up for that: whether trying optimizers is as good as tuning
one, and for how many, is a matter of whose defaults they are.

Why: The advice has been read from a benchmark. It depends on the rates that a library calls
defaults, which for SGD differ a hundredfold.

Source: beyond the tutorials; Schmidt, Schneider and Hennig (2021), Descending through a crowded
valley, https://arxiv.org/abs/2007.01547, who find both as good.
Section: beyond A7.
Command: python -m experiments defaults_or_tuning
Expected: loss over that of tuning, for one and for six trials: the tutorials' .61 and .70,
PyTorch's 1.32 and .70; one of PyTorch's over one of the tutorials' 2.2
Time: 15 s; with --whole, 12 optimizers, six problems, 21 rates and 20 seeds, 7 minutes.
"""

import dataclasses
import sys
from math import comb
from typing import NamedTuple

import jax
import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from experiments.training._entrants import ENTRANTS, PYTORCH, TUTORIAL, log_rates
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.training import problems, race

DEFAULTS = {"the tutorials'": TUTORIAL, "PyTorch's": PYTORCH}


@dataclasses.dataclass(frozen=True)
class Config:
    """Who is tried on what, and how often."""

    optimizers: tuple[str, ...] = ("SGD", "momentum", "AdaGrad", "RMSprop", "Adam", "Lion")
    kinds: tuple[str, ...] = ("noisy_quadratic", "logistic_regression")
    num_rates: int = 11
    num_seeds: int = 12
    num_steps: int = 300
    num_draws: int = 1000

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_steps=200, num_draws=200)

    def whole(self) -> "Config":
        kinds = tuple(problem.name for problem in problems.toy_six())
        names = tuple(ENTRANTS)
        return dataclasses.replace(self, optimizers=names, kinds=kinds, num_rates=21, num_seeds=20)


class Result(NamedTuple):
    """Mean log of the final loss after k trials, of shape (trials, judging seeds)."""

    tuned: np.ndarray
    """One optimizer, the mean over all of them."""
    tried: dict[str, np.ndarray]
    """Optimizers at their defaults, by whose defaults."""
    num_draws: int


def run(config: Config) -> Result:
    grid = log_rates(config.num_rates)
    rates = {
        name: np.union1d(grid, [defaults[name] for defaults in DEFAULTS.values()])
        for name in config.optimizers
    }
    table = race(
        {name: ENTRANTS[name] for name in config.optimizers},
        [getattr(problems, kind)() for kind in config.kinds],
        learning_rates=rates,
        seeds=config.num_seeds,
        steps=config.num_steps,
        key=jax.random.key(0),
        time_steps=False,
        progress=False,
    )
    # what diverged, or ends above its start, counts with the start
    start = np.median(table.losses[:, :, 0, :, 0], axis=(0, 2))[:, None, None]
    losses = np.log(np.minimum(table.losses[..., -1], start)).astype(float)
    columns = lambda name, wanted: np.flatnonzero(np.isin(rates[name], wanted))
    on_grid = np.stack([losses[k][:, columns(n, grid)] for k, n in enumerate(config.optimizers)])
    at_defaults = {
        whose: np.stack(
            [losses[k][:, columns(n, defaults[n])[0]] for k, n in enumerate(config.optimizers)], 1
        )
        for whose, defaults in DEFAULTS.items()
    }
    num_trials = len(config.optimizers)
    tuned = best_of(on_grid, num_trials).mean(axis=(0, 1))
    tried = {
        whose: best_of(log_loss, num_trials).mean(axis=0) for whose, log_loss in at_defaults.items()
    }
    return Result(tuned, tried, config.num_draws)


def best_of(losses: np.ndarray, num_trials: int) -> np.ndarray:
    """Return the mean over all subsets of k options of the one that half of the seeds find best.

    From (..., options, seeds) to (..., trials, judging seeds). Of R options in their order the i-th
    is the best in comb(R - i, k - 1) of the comb(R, k) subsets.
    """
    choosing, judging = np.array_split(losses, 2, axis=-1)
    order = np.argsort(choosing.mean(axis=-1), axis=-1, kind="stable")
    ranked = np.take_along_axis(judging, order[..., None], axis=-2)
    num = ranked.shape[-2]
    weights = [
        [comb(num - i, k - 1) / comb(num, k) for i in range(1, num + 1)]
        for k in range(1, num_trials + 1)
    ]
    return np.array(weights) @ ranked


def interval(differences: np.ndarray, num_draws: int) -> np.ndarray:
    """Return mean and 95 % interval of differences (trials, seeds), by a bootstrap over seeds."""
    num = differences.shape[-1]
    draws = np.random.default_rng(0).integers(num, size=(num_draws, num))
    ends = np.quantile(differences[..., draws].mean(axis=-1), [0.025, 0.975], axis=-1)
    return np.stack([differences.mean(axis=-1), *ends], axis=-1)


def ratios(result: Result) -> dict[str, np.ndarray]:
    """Return the loss by defaults over that by tuning with as many trials: mean, lower, upper."""
    return {
        whose: np.exp(interval(tried - result.tuned, result.num_draws))
        for whose, tried in result.tried.items()
    }


def check(result: Result) -> list[Claim]:
    found = ratios(result)
    ours, theirs = found["the tutorials'"], found["PyTorch's"]
    choice = result.tried["PyTorch's"] - result.tried["the tutorials'"]
    choice = np.exp(interval(choice, result.num_draws))
    return [
        at_least(
            "one over one rate drawn, ends of 95 %: PyTorch's, or 1 over the tutorials', the lower",
            min(theirs[0, 1], 1 / ours[0, 2]),
            1.0,
            headline=True,
        ),
        at_most("the tutorials' defaults, one over one rate drawn: upper of 95 %", ours[0, 2], 1.0),
        at_least("PyTorch's defaults, one over one rate drawn: lower of 95 %", theirs[0, 1], 1.0),
        at_least("PyTorch's over the tutorials', one tried: lower of 95 %", choice[0, 1], 1.0),
    ]


def plot(result: Result):
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    trials = np.arange(1, len(result.tuned) + 1)
    colors = dict(zip(result.tried, ("#0A4C86", "#A84000"), strict=True))
    left.plot(trials, np.exp(result.tuned.mean(axis=-1)), "k-o", label="rates of one optimizer")
    for whose, tried in result.tried.items():
        losses = np.exp(tried.mean(axis=-1))
        left.plot(trials, losses, "--s", color=colors[whose], label=f"optimizers, {whose} defaults")
    left.set_ylabel("final loss (geometric mean)")
    left.legend(frameon=False)
    left.set_title("More trials, lower loss: of rates and of optimizers", fontsize="medium")
    for whose, ratio in ratios(result).items():
        right.plot(trials, ratio[:, 0], "-o", color=colors[whose], label=f"{whose} defaults")
        right.fill_between(trials, ratio[:, 1], ratio[:, 2], color=colors[whose], alpha=0.2)
    right.axhline(1.0, color="black", linestyle="--", linewidth=1)
    right.set_ylabel("defaults over tuning (95 % interval)")
    right.legend(frameon=False)
    right.set_title("Below 1 defaults are better than tuning", fontsize="medium")
    for axes in (left, right):
        axes.set_xlabel("trials")
        axes.set_xticks(trials)
    return {"trials": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
