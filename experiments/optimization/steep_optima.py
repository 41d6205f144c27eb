"""From nine starts in ten Adam ends in a steep optimum, and SGD and momentum end in none.

Question: What happens to optimizers that meet a narrow, steep minimum in a wide plain?

Claim: on three narrow Gaussian wells (sigma .2) in a plain, 100 updates from (0, 0), only Adam
(learning rate .2) ends in an optimum. SGD (.5) touches one, is thrown out by its wall and never
comes back, not within 3000 updates; momentum (1, decay .9) leaves the plot. The same from 64
starts around the origin (normal, std .05).
Beyond the tutorial: it is the learning rate that is wrong, not momentum: a tenth of it arrives
from most starts, at the price of hundreds of updates in the plain.

Why: The rate that crosses the plain is the one that is thrown out by the wall. A bounded step, as
Adam's, survives both; a smaller rate does too but takes far longer.

Source: UvA tutorial 4, steep optima.
Section: A9.
Command: python -m experiments steep_optima
Expected: losses from (0, 0) after 100 updates: Adam -3.979 (the infimum), SGD -6e-10 after touching
-3.91, momentum 0 after leaving to |w| = 6.7.
Time: 6 s.
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
CHOSEN = {"SGD": 0.5, "momentum": 1.0, "Adam": 0.2}
SMALL = 0.1
DEPTH = -surfaces.steep_optima.infimum
# Within sigma / 7 of a centre a well keeps exp(-1/98) = 99 % of its depth; beyond 3 sigma, where
# nothing pulls back, 1 %.
IN, OUT = 0.99, 0.01


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_starts: int = 64
    """Random starts beside the tutorial's own."""
    num_rates: int = 21
    num_steps: int = 100
    num_long_steps: int = 3000
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_starts=16, num_rates=11)


class Result(NamedTuple):
    """Depth (a fraction of the deepest) of every run, and the paths from the origin."""

    learning_rates: np.ndarray
    depth: dict[str, np.ndarray]
    """After `num_steps` updates, shape (rates, starts); the tutorial's start comes first."""
    long_depth: dict[str, np.ndarray]
    """After `num_long_steps` updates."""
    paths: dict[str, np.ndarray]
    """From (0, 0) with the tutorial's learning rates, shape (num_steps + 1, 2)."""
    deepest: dict[str, float]
    """On these paths."""
    later_deepest: dict[str, float]
    """On the same paths from `num_steps` to `num_long_steps` updates."""


@partial(jax.jit, static_argnames="num_steps")
def sweep(learning_rates, starts, num_steps):
    """Run every optimizer at every rate from every start: one program."""

    def one(build, rate, start):
        return descend(surfaces.steep_optima.fun, start, build(rate), num_steps)

    return {
        name: jax.vmap(jax.vmap(partial(one, build), (None, 0)), (0, None))(learning_rates, starts)
        for name, build in OPTIMIZERS.items()
    }


def run(config: Config) -> Result:
    grid = np.geomspace(0.01, 2.0, config.num_rates)
    rates = np.unique([*grid, *CHOSEN.values(), SMALL]).astype(np.float32)
    start = jnp.asarray(surfaces.steep_optima.start)
    noise = jax.random.normal(jax.random.key(config.seed), (config.num_starts, 2))
    starts = jnp.concatenate([start[None], start + 0.05 * noise])
    runs = jax.device_get(sweep(rates, starts, config.num_long_steps))
    runs = {name: runs[name] for name in OPTIMIZERS}  # jit sorts the keys
    depths = {name: -path.values / DEPTH for name, path in runs.items()}
    mine = {name: depth[_at(rates, CHOSEN[name]), 0] for name, depth in depths.items()}
    end = config.num_steps
    return Result(
        learning_rates=rates,
        depth={name: depth[..., end] for name, depth in depths.items()},
        long_depth={name: depth[..., -1] for name, depth in depths.items()},
        paths={
            name: path.points[_at(rates, CHOSEN[name]), 0, : end + 1] for name, path in runs.items()
        },
        deepest={name: float(depth[: end + 1].max()) for name, depth in mine.items()},
        later_deepest={name: float(depth[end:].max()) for name, depth in mine.items()},
    )


def _at(rates: np.ndarray, rate: float) -> int:
    return int(np.argmin(np.abs(rates - rate)))


def check(result: Result) -> list[Claim]:
    arrived = {
        name: np.mean(depth[_at(result.learning_rates, CHOSEN[name])] >= IN)
        for name, depth in result.depth.items()
    }
    best = {name: np.mean(depth >= IN, axis=1).max() for name, depth in result.depth.items()}
    slow = np.mean(result.long_depth["momentum"][_at(result.learning_rates, SMALL)] >= IN)
    adam_depth = result.depth["Adam"][_at(result.learning_rates, CHOSEN["Adam"]), 0]
    edge = surfaces.steep_optima.domain[1].max()
    # A true share of 10 % would leave 64 starts without a single arrival once in 850 samples.
    return [
        at_least("Adam from (0, 0): depth at the end, of the whole", adam_depth, IN),
        at_least("Adam, share of all starts that end in an optimum", arrived["Adam"], 0.9),
        at_least("SGD from (0, 0) touches an optimum: depth", result.deepest["SGD"], 0.5),
        at_most("SGD from update 100 to 3000: deepest", result.later_deepest["SGD"], OUT),
        at_most("SGD, share of all starts that end in an optimum", arrived["SGD"], 0.1),
        at_least("momentum's largest coordinate", np.abs(result.paths["momentum"]).max(), edge),
        at_most("momentum, share of all starts that end in an optimum", arrived["momentum"], 0.1),
        at_least(
            "smallest share of starts: Adam in an optimum, SGD in none, momentum in none",
            min(arrived["Adam"], 1 - arrived["SGD"], 1 - arrived["momentum"]),
            0.9,
            headline=True,
        ),
        at_most("SGD at its best learning rate, same share", best["SGD"], 0.1),
        at_least("momentum at .1 after 3000 updates, same share", slow, 0.5, required=False),
    ]


def plot(result: Result):
    surface = surfaces.steep_optima
    shares = {name: np.mean(depth >= IN, axis=1) for name, depth in result.depth.items()}
    for name in ("SGD", "momentum"):
        shares[f"{name}, 3000 updates"] = np.mean(result.long_depth[name] >= IN, axis=1)
    num_starts = result.depth["Adam"].shape[1]
    sensitivity = plot_sensitivity(
        result.learning_rates,
        shares,
        chosen=CHOSEN,
        yscale="linear",
        ylabel="share of starts that end in an optimum",
        title=f"In 100 updates SGD arrives at no rate, Adam at most ({num_starts} starts)",
    )
    labels = {f"{name} ({CHOSEN[name]:g})": path for name, path in result.paths.items()}
    title = "Adam stays in a well, SGD and momentum are thrown out"
    from_above = plot_surface(surface.fun, surface.domain, labels, title=title)
    relief = plot_surface_3d(surface.fun, surface.domain, title="Steep optima")
    axes = {"sensitivity": sensitivity, "paths": from_above, "surface": relief}
    return {name: ax.figure for name, ax in axes.items()}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
