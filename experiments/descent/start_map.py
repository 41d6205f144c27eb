"""Momentum takes at least one start in ten to another minimum than gradient descent does.

Question: Does the start decide which minimum is found, or does the optimizer?

Claim: on Himmelblau's function with its four equal minima, 40 000 starts run by four optimizers in
one compiled program give a map of basins. Slow gradient descent follows the gradient's flow: every
start reaches a minimum, and the map does not change with the resolution. Momentum and Adam take
some starts to other minima than the gradient does, momentum by far the more. Newton's bare step
converges to whatever stationary point is near: many starts end at a saddle or at the maximum.

Why: Results of one start are an anecdote where there are several minima. The map shows which
optimizers follow the flow of the gradient and which leave it.

Source: Technion tutorial 5, the start of the search; Nocedal and Wright (2006), section 3.3, on
Newton's step.
Section: B1.
Command: python -m experiments start_map
Expected: gradient 100 % at minima, momentum to others in 18 %, Adam in 7 %; Newton's bare step 58 %
at minima.
Time: 5 s.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.colors import ListedColormap

from experiments._claims import Claim, at_least, at_most, between
from experiments._runner import run_script
from jaxopt_tut.landscape import surfaces
from jaxopt_tut.optimizers import adam, minimize, momentum, newton, sgd
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS

SURFACE = surfaces.himmelblau
BARE_NEWTON = "Newton, bare step"
OPTIMIZERS = {
    "gradient": sgd(0.004),
    "momentum": momentum(0.01, decay=0.95),
    "Adam": adam(0.05),
    BARE_NEWTON: newton(line_search=optax.identity(), solve=jnp.linalg.solve),
}
NOT_A_MINIMUM, NOWHERE = 4, 5


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    resolution: int = 200
    """Starts a side."""
    max_steps: int = 1000

    def quick(self) -> "Config":
        return dataclasses.replace(self, resolution=50)


class Result(NamedTuple):
    """For each optimizer, which minimum every start reached."""

    reached: dict[str, np.ndarray]
    """Index of the minimum, `NOT_A_MINIMUM` (another stationary point) or `NOWHERE`; the start's
    second coordinate along axis 0."""
    half: dict[str, np.ndarray]
    """Share of the starts at each minimum, on the coarser grid of every second start."""


def grid(resolution: int) -> np.ndarray:
    lower, upper = SURFACE.domain
    # an even number of starts a side: none lies on the axis of symmetry between two basins
    first, second = np.linspace(lower, upper, resolution, dtype=np.float32).T
    return np.stack(np.meshgrid(first, second), axis=-1)


@partial(jax.jit, static_argnames="max_steps")
def search(starts, max_steps):
    """Run every optimizer from every start: one program."""

    def one(optimizer, start):
        # in float32 the gradient, of size 1000 at the corners, is good to some 1e-4
        end = minimize(SURFACE.fun, start, optimizer, max_steps=max_steps, gtol=1e-2)
        near = jnp.linalg.norm(jnp.asarray(SURFACE.minima) - end.params, axis=-1)
        place = jnp.where(near.min() < 1e-2, near.argmin(), NOT_A_MINIMUM)
        return jnp.where(end.converged, place, NOWHERE)

    return {
        name: jax.vmap(jax.vmap(lambda start, o=optimizer: one(o, start)))(starts)
        for name, optimizer in OPTIMIZERS.items()
    }


def run(config: Config) -> Result:
    found = jax.device_get(search(grid(config.resolution), config.max_steps))
    reached = {name: found[name] for name in OPTIMIZERS}
    half = {name: shares(places[::2, ::2])[:4] for name, places in reached.items()}
    return Result(reached, half)


def shares(reached: np.ndarray) -> np.ndarray:
    """Return the share of the starts at each minimum, at no minimum, nowhere."""
    return np.bincount(reached.ravel(), minlength=6) / reached.size


def check(result: Result) -> list[Claim]:
    share = {name: shares(reached) for name, reached in result.reached.items()}
    at_minima = {name: float(of[:4].sum()) for name, of in share.items()}
    other = {
        name: float(np.mean(reached != result.reached["gradient"]))
        for name, reached in result.reached.items()
    }
    side = len(result.reached["gradient"])
    change = np.abs(share["gradient"][:4] - result.half["gradient"]).max()
    return [
        at_least("gradient: share of starts that reach a minimum", at_minima["gradient"], 0.999),
        at_least("gradient: smallest basin, share of the starts", share["gradient"][:4].min(), 0.1),
        # A basin's border crosses the map at most a few times; each start beside it may be
        # counted to either side, in rows that are two starts apart on the coarse grid.
        at_most("gradient: change of a basin at half the resolution", change, 4 / side),
        at_least("momentum: share of starts that reach a minimum", at_minima["momentum"], 0.999),
        at_least(
            "momentum: share that ends elsewhere than the gradient",
            other["momentum"],
            0.1,
            headline=True,
        ),
        at_least("Adam: share of starts that reach a minimum", at_minima["Adam"], 0.999),
        between("Adam: share that ends elsewhere than the gradient", other["Adam"], 0.01, 0.5),
        at_least(
            "Newton's bare step: share that ends at a saddle or the maximum",
            share[BARE_NEWTON][NOT_A_MINIMUM],
            0.2,
        ),
        at_least(
            "Newton's bare step: share that ends at any stationary point",
            1 - share[BARE_NEWTON][NOWHERE],
            0.999,
        ),
    ]


def plot(result: Result):
    figure = new_figure(9.0, 8.6)
    lower, upper = SURFACE.domain
    colours = ListedColormap([*COLORS[:4], "#000000", "#FFFFFF"])
    for ax, (name, reached) in zip(figure.subplots(2, 2).flat, result.reached.items(), strict=True):
        ax.imshow(
            reached,
            origin="lower",
            extent=(lower[0], upper[0], lower[1], upper[1]),
            cmap=colours,
            vmin=-0.5,
            vmax=5.5,
            interpolation="nearest",
        )
        ax.plot(*SURFACE.minima.T, "o", color="white", markeredgecolor="black", markersize=7)
        share = shares(reached)[:4].sum()
        ax.set_title(f"{name}: {share:.1%} reach a minimum", fontsize="medium")
        ax.set_xlabel("$w_1$ of the start")
        ax.set_ylabel("$w_2$ of the start")
    figure.suptitle(
        "Colour: which minimum (dot) of Himmelblau's function is reached; black: a saddle or\n"
        "the maximum; white: none within the steps allowed",
        fontsize="medium",
    )
    return {"basins": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
