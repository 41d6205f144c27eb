"""Learning rates learned through the steps of a quadratic reach the loss of conjugate gradients.

Question: Which learning rates does a hypergradient find for a quadratic?

Claim: the hypergradient in the learning rate of each of T steps leads from the best constant rate
to the best rates there are. Where the gradient is equally large in all directions and the
curvatures fill their interval as the roots of a Chebyshev polynomial do, those are Chebyshev's:
1/(mid + half cos((2 t - 1) pi / 2 T)), in any order, for steps of a quadratic commute. Chebyshev's
rates are best if the ends of the spectrum are all one knows; where the curvatures lie in two
groups, learned ones are better, and reach the loss of T steps of conjugate gradients, which no
rates can beat.

Why: On a quadratic the best rates are known in closed form, so that a learned schedule can be
judged. It also shows when learning beats the formula: where more is known of the spectrum than its
ends.

Source: beyond the tutorials; Maclaurin et al. (2015), section 3.1, on learned schedules; Young
(1953) for the rates; Saad (2003), "Iterative methods for sparse linear systems", theorem 6.29 and
section 12.3.
Section: beyond B4.
Command: python -m experiments learned_step_sizes
Expected: at a condition number of 20, T = 6: Chebyshev's six rates to 1e-12, a 15th of the loss of
the constant rate; in two groups a 40th of the loss of Chebyshev's rates.
Time: 4 s.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.bilevel.recipes import learn_schedule
from jaxopt_tut.linalg import cg
from jaxopt_tut.optimizers import adam
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import look, tidy

SMALLEST, LARGEST = 1.0, 20.0
MIDDLE, HALF = (LARGEST + SMALLEST) / 2, (LARGEST - SMALLEST) / 2
CONSTANT = 1 / MIDDLE
FILLED, GROUPS = "interval filled", "two groups"
TITLES = {
    FILLED: "Interval filled (ticks): learned is Chebyshev's",
    GROUPS: "Two groups (ticks): learned is lower on them",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_steps: int = 6
    """T."""
    num_outer_steps: int = 4000
    num_seeds: int = 8
    """Starts near the constant rate."""
    dim: int = 24
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_steps=4, num_outer_steps=1000, num_seeds=4)


class Result(NamedTuple):
    """By spectrum."""

    curvatures: dict[str, np.ndarray]
    rates: dict[str, np.ndarray]
    """Learned, one a step; shape (seeds, T)."""
    losses: dict[str, np.ndarray]
    """After T steps, before each outer step; shape (seeds, outer steps)."""
    conjugate: dict[str, float]
    """Loss after T steps of conjugate gradients."""


def chebyshev_roots(num_roots: int) -> np.ndarray:
    """Return the roots of the Chebyshev polynomial of the interval, from small to large."""
    angles = (2 * np.arange(num_roots, 0, -1) - 1) * np.pi / (2 * num_roots)
    return MIDDLE + HALF * np.cos(angles)


def loss_of(rates: np.ndarray, curvatures: np.ndarray) -> float:
    """Return the loss that steps of these rates end at, from a gradient of ones.

    Each step shrinks the part along a curvature by 1 - eta lambda; it starts at 1 / lambda.
    """
    return 0.5 * float(np.sum(polynomial(rates, curvatures) ** 2 / curvatures))


def polynomial(rates: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """Return the product of 1 - eta lambda over the steps."""
    return np.prod(1 - np.outer(curvatures, rates), axis=1)


@partial(jax.jit, static_argnames="config")
def learn(curvatures, starts, config: Config):
    """Learn on every spectrum from every start: one program."""
    decay = optax.cosine_decay_schedule(0.05, config.num_outer_steps)

    def one(curvatures, start):
        return learn_schedule(
            lambda w: 0.5 * jnp.sum(curvatures * w**2),
            1 / curvatures,
            inner_steps=config.num_steps,
            optimizer=adam(decay),
            num_steps=config.num_outer_steps,
            start=start,
        )

    def conjugate(curvatures):
        matvec = lambda v: curvatures * v
        found = cg(matvec, jnp.ones_like(curvatures), tol=0.0, max_steps=config.num_steps)
        return 0.5 * jnp.sum(curvatures * (found.x - 1 / curvatures) ** 2)

    every = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
    return every(curvatures, starts), jax.vmap(conjugate)(curvatures)


def run(config: Config) -> Result:
    low, high = np.linspace([1.0, 18.0], [2.0, 20.0], config.dim // 2).T
    curvatures = {
        FILLED: chebyshev_roots(config.dim),
        GROUPS: np.concatenate([low, high]),
    }
    noise = np.random.default_rng(config.seed).standard_normal((config.num_seeds, config.num_steps))
    starts = CONSTANT * np.exp(0.1 * noise)
    with jax.enable_x64(True):
        stacked = jnp.asarray(np.stack(list(curvatures.values())))
        learned, conjugate = jax.device_get(learn(stacked, jnp.asarray(starts), config))
    by_name = lambda rows: dict(zip(curvatures, rows, strict=True))
    return Result(curvatures, by_name(learned.value), by_name(learned.losses), by_name(conjugate))


def check(result: Result) -> list[Claim]:
    filled = result.curvatures[FILLED]
    best = 1 / chebyshev_roots(result.rates[FILLED].shape[1])[::-1]
    worst_rate = np.abs(np.sort(result.rates[FILLED], axis=1) / best - 1).max()
    # Two losses that differ by less than their rounding tell rates apart no better than to its
    # root, over the root of the loss's curvature in log rates, which exceeds a hundredth of it.
    unresolved = 10 * np.sqrt(np.finfo(float).eps)
    end = {name: losses[:, -1] for name, losses in result.losses.items()}
    chebyshev = {name: loss_of(best, lam) for name, lam in result.curvatures.items()}
    gain = loss_of(np.full_like(best, CONSTANT), filled) / end[FILLED].max()
    # The bounds of all curvatures in the interval: the constant rate's factor, and Chebyshev's.
    bounds = (
        ((LARGEST - SMALLEST) / (LARGEST + SMALLEST)) ** len(best),
        np.abs(polynomial(best, np.array([LARGEST]))[0]),
    )
    claims = [
        at_most(
            f"{FILLED}: learned rates against Chebyshev's, largest relative error",
            worst_rate,
            unresolved,
        ),
        at_least(
            f"{FILLED}: loss of the constant rate over the learned rates'",
            gain,
            # Both bounds are reached at the ends of the spectrum; within, half of it is left.
            0.5 * (bounds[0] / bounds[1]) ** 2,
        ),
        at_least(
            f"{GROUPS}: loss of Chebyshev's rates over the learned rates'",
            chebyshev[GROUPS] / end[GROUPS].max(),
            # The groups fill a seventh of the interval; knowing that is worth nothing at 1.
            2.0,
        ),
    ]
    off = [np.abs(losses / result.conjugate[name] - 1).max() for name, losses in end.items()]
    text = "both spectra: learned loss over that of conjugate gradients, distance from 1"
    claims.append(at_most(text, np.max(off), unresolved, headline=True))
    for name, losses in end.items():
        ratio = losses / result.conjugate[name]
        farthest = ratio[np.argmax(np.abs(ratio - 1))]
        text = f"{name}: learned loss over that of conjugate gradients, farthest from 1"
        # At a minimum a loss is better known than the rates.
        claims.append(equal(text, farthest, 1.0, unresolved))
    return claims


def plot(result: Result):
    figure = new_figure(13, 4.4)
    schedule, *panels = figure.subplots(1, 3)
    rates = result.rates[FILLED]
    num_steps = rates.shape[1]
    best = 1 / chebyshev_roots(num_steps)
    for rate in best:
        schedule.axhline(rate, color="0.6", linewidth=1)
    for i, row in enumerate(rates[:4]):
        schedule.plot(np.arange(1, num_steps + 1), row, **look(i) | {"markersize": 5})
    schedule.set_yscale("log")
    tidy(
        schedule,
        xlabel="step",
        ylabel="learned rate",
        title="All starts find Chebyshev's rates (grey), in some order",
    )
    grid = np.linspace(SMALLEST - 0.3, LARGEST + 0.3, 600)
    for ax, (name, curvatures) in zip(panels, result.curvatures.items(), strict=True):
        rows = {
            "constant rate": np.full(num_steps, CONSTANT),
            "Chebyshev": best,
            "learned": result.rates[name][np.argmin(result.losses[name][:, -1])],
        }
        plot_lines(
            grid,
            {label: np.abs(polynomial(row, grid)) for label, row in rows.items()},
            xlabel="curvature",
            ylabel="factor of the error after all steps",
            yscale="log",
            title=TITLES[name],
            ax=ax,
        )
        ax.set_ylim(1e-4, 2.0)
        ax.plot(curvatures, np.full_like(curvatures, 1.3e-4), "k|", markersize=7)
    return {"rates": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
