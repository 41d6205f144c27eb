"""In a ravine SGD ends at five times the loss of momentum or Adam, or more, in the median.

Question: Why does plain gradient descent fail where one direction is steep and another flat?

Claim: on tanh(w1)^2 + 0.01 |w1| + sigmoid(w2), 100 updates from (5, 5), momentum (learning rate
10, decay .9) and Adam (1) reach the bottom, SGD (10) does not; momentum fails too at 20.
SGD's path is chaotic and passes w1 = 0, so its best or last loss says little: runs are judged by
the mean of their last 20 losses, and by the median over 65 starts around (5, 5) (normal, std .25).
Beyond the tutorial: no learning rate at all saves SGD within 100 updates, rate 1 does within 300;
Adam works over more than a decade of learning rates, momentum over less than one.

Why: Networks have such ravines: a rate that suits the flat direction is too large for the steep
one. Averaging gradients, or scaling each coordinate, does in few steps what no single rate does.

Source: UvA tutorial 4, pathological curvatures.
Section: A8.
Command: python -m experiments ravine
Expected: from (5, 5): SGD .99, momentum .0015, Adam .0001; momentum at 20: .83.
Time: 5 s.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut.landscape import descend, surfaces
from jaxopt_tut.optimizers import adam, momentum, sgd
from jaxopt_tut.plotting import plot_sensitivity, plot_surface, plot_surface_3d

OPTIMIZERS = {"SGD": sgd, "momentum": momentum, "Adam": adam}
CHOSEN = {"SGD": 10.0, "momentum": 10.0, "Adam": 1.0}
TOO_LARGE, SMALL = 20.0, 1.0
# A run that still jumps between the walls, where tanh^2 is nearly 1, has a mean tail of about half
# a unit or more; one that follows the valley beyond w2 = -2.2 has less than sigmoid(-2.2) = .1.
ARRIVED, LOST = 0.1, 0.5


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_starts: int = 64
    """Random starts beside the tutorial's own."""
    num_rates: int = 25
    num_steps: int = 100
    num_long_steps: int = 300
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_starts=16, num_rates=13)


class Result(NamedTuple):
    """Mean of the last 20 losses of every run, and three of the paths."""

    learning_rates: np.ndarray
    tail: dict[str, np.ndarray]
    """After `num_steps` updates, shape (rates, starts); the tutorial's start comes first."""
    long_tail: dict[str, np.ndarray]
    """After `num_long_steps` updates."""
    paths: dict[str, np.ndarray]
    """From the tutorial's start with its learning rates, shape (points, 2)."""


@partial(jax.jit, static_argnames="num_steps")
def sweep(learning_rates, starts, num_steps):
    """Run every optimizer at every rate from every start: one program."""

    def one(build, rate, start):
        return descend(surfaces.ravine.fun, start, build(rate), num_steps)

    return {
        name: jax.vmap(jax.vmap(partial(one, build), (None, 0)), (0, None))(learning_rates, starts)
        for name, build in OPTIMIZERS.items()
    }


def run(config: Config) -> Result:
    grid = np.geomspace(0.1, 100.0, config.num_rates)
    rates = np.unique([*grid, *CHOSEN.values(), TOO_LARGE]).astype(np.float32)
    start = jnp.asarray(surfaces.ravine.start)
    noise = jax.random.normal(jax.random.key(config.seed), (config.num_starts, 2))
    starts = jnp.concatenate([start[None], start + 0.25 * noise])
    runs = jax.device_get(sweep(rates, starts, config.num_long_steps))
    runs = {name: runs[name] for name in OPTIMIZERS}  # jit sorts the keys
    end = config.num_steps + 1
    return Result(
        learning_rates=rates,
        tail={name: path.values[..., end - 20 : end].mean(axis=-1) for name, path in runs.items()},
        long_tail={name: path.values[..., -20:].mean(axis=-1) for name, path in runs.items()},
        paths={name: path.points[_at(rates, CHOSEN[name]), 0, :end] for name, path in runs.items()},
    )


def _at(rates: np.ndarray, rate: float) -> int:
    return int(np.argmin(np.abs(rates - rate)))


def _decades(result: Result, name: str) -> float:
    """Return how many decades of learning rates arrive (median over the starts)."""
    good = result.learning_rates[np.median(result.tail[name], axis=1) <= ARRIVED]
    return float(np.log10(good[-1] / good[0])) if good.size else 0.0


def check(result: Result) -> list[Claim]:
    tail = {
        name: runs[_at(result.learning_rates, CHOSEN[name])] for name, runs in result.tail.items()
    }
    median = {name: np.median(runs) for name, runs in tail.items()}
    faster = np.median(result.tail["momentum"][_at(result.learning_rates, TOO_LARGE)])
    best_sgd = np.median(result.tail["SGD"], axis=1).min()
    slower = max(median["momentum"], median["Adam"])
    slow_sgd = np.median(result.long_tail["SGD"][_at(result.learning_rates, SMALL)])
    return [
        at_least("SGD (10) from (5, 5): mean of the last 20 losses", tail["SGD"][0], LOST),
        at_least("SGD (10), median over starts", median["SGD"], LOST),
        at_most("momentum (10) from (5, 5)", tail["momentum"][0], ARRIVED),
        at_most("momentum (10), median over starts", median["momentum"], ARRIVED),
        at_most("Adam (1) from (5, 5)", tail["Adam"][0], ARRIVED),
        at_most("Adam (1), median over starts", median["Adam"], ARRIVED),
        at_least(
            "SGD's median loss over the larger of momentum's and Adam's",
            median["SGD"] / slower,
            LOST / ARRIVED,
            headline=True,
        ),
        at_least("momentum at learning rate 20, median over starts", faster, LOST),
        at_least("SGD at the best learning rate of all, median over starts", best_sgd, ARRIVED),
        at_most("SGD (1) given three times the updates", slow_sgd, ARRIVED, required=False),
        at_least("decades of learning rates that Adam allows", _decades(result, "Adam"), 1.0),
        at_most(
            "decades of learning rates that momentum allows", _decades(result, "momentum"), 1.0
        ),
    ]


def plot(result: Result):
    surface = surfaces.ravine
    sensitivity = plot_sensitivity(
        result.learning_rates,
        result.tail,
        chosen=CHOSEN,
        ylabel="mean of the last 20 losses",
        title="No rate saves SGD in 100 updates (large: the tutorial's rates)",
    )
    sensitivity.axhline(ARRIVED, color="0.4", linewidth=0.8, linestyle=":")
    labels = {f"{name} ({CHOSEN[name]:g})": path for name, path in result.paths.items()}
    title = "SGD jumps from wall to wall, momentum and Adam do not"
    from_above = plot_surface(surface.fun, surface.domain, labels, title=title)
    relief = plot_surface_3d(surface.fun, surface.domain, title="Ravine")
    axes = {"sensitivity": sensitivity, "paths": from_above, "surface": relief}
    return {name: ax.figure for name, ax in axes.items()}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
