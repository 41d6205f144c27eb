"""At least 70 % of runs find the right minimum by single examples and not by the full gradient.

Question: Can the noise of stochastic gradients be of use?

Claim: fit the frequency of a sine. The loss has ten poor minima beside the right one. From a poor
one gradient descent does not move; single-example gradients of the same loss, with the same
learning rate, throw the frequency out, and it settles at the right one, where every residual and
hence the noise is 0. The noise counts, not the method: batches of 64, or a learning rate ten times
smaller, hardly ever find it.

Why: Noise throws a search out of minima in which the examples disagree, and leaves it in one in
which they agree. The size of the noise counts, learning rate over batch size, so that a larger
batch can end in a worse place.

Source: Technion tutorial 5, stochastic gradient descent; noise in proportion to learning rate over
batch size as in Smith and Le (2018), eq. (6).
Section: B1.
Command: python -m experiments stochastic_escape
Expected: share at the right frequency after 2000 steps: full 0, single examples .94.
Time: 10 s.
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
from jaxopt_tut.optimizers import sgd
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below

TRUTH = 5.0
NUM_EXAMPLES = 200
TIMES = np.linspace(0.0, 6.0, NUM_EXAMPLES, dtype=np.float32)
RATE = 0.15
FULL, SINGLE = "full gradient", "single examples"
CASES = {
    FULL: (NUM_EXAMPLES, RATE),
    SINGLE: (1, RATE),
    "batches of 8": (8, RATE),
    "batches of 64": (64, RATE),
    "single examples, rate / 10": (1, RATE / 10),
}
QUIET = ("batches of 64", "single examples, rate / 10")
NEAR = 0.1
"""Half-width around a minimum, which the poor ones are six to ten times away from each other."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_runs: int = 64
    """From each of the poor minima beside the right one."""
    num_steps: int = 2000
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_runs=16)


class Result(NamedTuple):
    """Frequencies; every array of runs has shape (2 minima, runs)."""

    poor: np.ndarray
    """The minima to both sides of the right one."""
    num_minima: int
    ends: dict[str, np.ndarray]
    paths: dict[str, np.ndarray]
    """Every tenth frequency of one run from the poor minimum above."""
    noise: np.ndarray
    """Standard deviation of a single example's gradient at the poor minima and at the right one."""


def errors(frequency, times):
    return 0.5 * (jnp.sin(frequency * times) - jnp.sin(TRUTH * times)) ** 2


def losses(frequencies):
    return jax.vmap(lambda frequency: errors(frequency, TIMES).mean())(frequencies)


def minima() -> np.ndarray:
    """Return the minima on a fine grid of frequencies."""
    grid = np.linspace(0.5, 10.0, 9501, dtype=np.float32)
    values = np.asarray(losses(grid))
    inner = values[1:-1]
    return grid[1:-1][(inner < values[:-2]) & (inner < values[2:])]


@partial(jax.jit, static_argnames=("batch_size", "num_steps"))
def search(keys, starts, rate, *, batch_size, num_steps):
    """Follow every run and keep every tenth frequency."""
    optimizer = sgd(rate)

    def step(carry, key):
        frequency, state = carry
        is_full = batch_size == NUM_EXAMPLES
        rows = jax.random.randint(key, (batch_size,), 0, NUM_EXAMPLES)
        times = TIMES if is_full else jnp.asarray(TIMES)[rows]
        grad = jax.grad(lambda f: errors(f, times).mean())(frequency)
        updates, state = optimizer.update(grad, state)
        return (optax.apply_updates(frequency, updates), state), frequency

    def one(key, start):
        carry = start, optimizer.init(start)
        _, path = jax.lax.scan(step, carry, jax.random.split(key, num_steps))
        return path[::10]

    return jax.vmap(jax.vmap(one, (0, None)), (None, 0))(keys, starts)


def run(config: Config) -> Result:
    found = minima()
    poor = np.array([found[found < TRUTH - NEAR].max(), found[found > TRUTH + NEAR].min()])
    ends, paths = {}, {}
    keys = jax.random.split(jax.random.key(config.seed), config.num_runs)
    for name, (batch_size, rate) in CASES.items():
        path = np.asarray(
            search(keys, poor, rate, batch_size=batch_size, num_steps=config.num_steps)
        )
        ends[name], paths[name] = path[..., -1], path[1, 0]
    gradients = jax.vmap(jax.jacobian(errors), (0, None))(
        jnp.array([*poor, TRUTH], jnp.float32), TIMES
    )
    return Result(poor, len(found), ends, paths, np.asarray(gradients.std(axis=1)))


def check(result: Result) -> list[Claim]:
    right = {
        name: float(np.mean(np.abs(ends - TRUTH) < NEAR)) for name, ends in result.ends.items()
    }
    moved = np.abs(result.ends[FULL] - result.poor[:, None]).max()
    # A standard error of 128 runs is at most .044.
    return [
        equal("minima between the frequencies .5 and 10", result.num_minima, 11, 0),
        at_most("full gradient: largest distance from the start", moved, 0.01),
        at_least("single examples: share that ends at the right frequency", right[SINGLE], 0.7),
        at_least(
            "share at the right frequency, of single examples minus of the full gradient",
            right[SINGLE] - right[FULL],
            0.7,
            headline=True,
        ),
        at_least("batches of 8: the same share", right["batches of 8"], 0.2),
        *[at_most(f"{name}: the same share", right[name], 0.2) for name in QUIET],
        at_least("noise at the better poor minimum", result.noise[:2].min(), 0.5),
        # residuals of rounding, some 1e-6 at frequency times time of 30
        at_most("noise at the right frequency", result.noise[2], 1e-4),
    ]


def plot(result: Result):
    figure = new_figure(11.0, 4.6)
    left, right = figure.subplots(1, 2)
    grid = np.linspace(0.5, 10.0, 1000, dtype=np.float32)
    plot_lines(
        grid,
        {"mean over all examples": np.asarray(losses(grid))},
        xlabel="frequency",
        ylabel="loss",
        title="Starts (rings) lie in poor minima",
        ax=left,
    )
    left.plot(result.poor, np.asarray(losses(result.poor)), "o", color="black", fillstyle="none")
    plot_lines(
        10 * np.arange(len(result.paths[FULL])),
        result.paths,
        xlabel="step",
        ylabel="frequency",
        title=f"Single examples find the right frequency, {TRUTH:g} (one run each)",
        ax=right,
    )
    legend_below(right, columns=3)
    return {"stochastic_escape": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
