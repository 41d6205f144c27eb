"""The best rate on a quadratic is 2/(lambda_min + lambda_max), not the tutorial's 1/lambda_max.

Question: Which step size is the best on a quadratic, and from where on does descent diverge?

Claim: gradient descent on a quadratic with curvatures from lambda_min to lambda_max shrinks the
distance to the minimum, step by step, by max |1 - eta lambda|. It is slow for small learning rates
eta, best at 2/(lambda_min + lambda_max), where the factor is (kappa - 1)/(kappa + 1), and diverges
beyond 2/lambda_max. The 1/lambda_max that the tutorial calls optimal takes about twice as many
steps. Measured on quadratics whose axes are turned at random, in float64.

Why: Near a minimum every smooth loss is a quadratic. The limit 2/lambda_max is what a training run
feels when a rate is too large, and 1/lambda_max is safe rather than best.

Source: Technion tutorial 5, step size and curvature; the factors are those of Polyak (1964) and
Nocedal and Wright (2006), theorem 3.3.
Section: B1.
Command: python -m experiments step_size_and_curvature
Expected: at a condition number of 20 the best rate is .0952, and 1/lambda_max takes 1.8 times the
steps (1.95 in the limit).
Time: 5 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.landscape import descend
from jaxopt_tut.optimizers import sgd
from jaxopt_tut.plotting import plot_lines, plot_sensitivity
from jaxopt_tut.plotting.style import legend_below

SMALLEST, LARGEST = 1.0, 20.0
BEST = 2 / (SMALLEST + LARGEST)
SLOW, SAFE, LIMIT = 0.2 / LARGEST, 1 / LARGEST, 2 / LARGEST
KAPPA = LARGEST / SMALLEST
SHOWN = {
    "0.2/lambda_max": SLOW,
    "1/lambda_max": SAFE,
    "2/(lambda_min + lambda_max)": BEST,
    "2.1/lambda_max": 1.05 * LIMIT,
}
TOLERANCE = 1e-6
"""The search has ended when the distance to the minimum has shrunk by this factor."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_problems: int = 16
    """Random orientations and starts."""
    num_rates: int = 41
    num_steps: int = 600
    dim: int = 6
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_problems=4)


class Result(NamedTuple):
    """Rates, and what each does to each problem."""

    learning_rates: np.ndarray
    factor: np.ndarray
    """By how much a step shrinks the distance, late in the run; shape (rates, runs)."""
    predicted: np.ndarray
    """The largest |1 - eta lambda|, shape (rates,)."""
    steps: np.ndarray
    """Until the distance has shrunk by `TOLERANCE`, infinity if never; shape (rates, runs)."""
    distances: dict[str, np.ndarray]
    """Of the first run at four of the rates, one a step, the first being 1."""


def run(config: Config) -> Result:
    grid = np.geomspace(0.1 * SAFE, 1.1 * LIMIT, config.num_rates)
    rates = np.unique([*grid, *SHOWN.values()])

    def distances(key, rate):
        axes_key, start_key = jax.random.split(key)
        axes, _ = jnp.linalg.qr(jax.random.normal(axes_key, (config.dim, config.dim)))
        hessian = (axes * jnp.geomspace(SMALLEST, LARGEST, config.dim)) @ axes.T
        start = jax.random.normal(start_key, (config.dim,))
        loss = lambda w: 0.5 * jnp.dot(w, hessian @ w)
        path = descend(loss, start, sgd(rate), config.num_steps)
        return jnp.linalg.norm(path.points, axis=-1)

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(config.seed), config.num_problems)
        every = jax.jit(jax.vmap(jax.vmap(distances, (0, None)), (None, 0)))
        found = np.asarray(every(keys, jnp.asarray(rates)))
    found = found / found[..., :1]
    half = config.num_steps // 2
    arrived = found <= TOLERANCE
    extremes = np.array([SMALLEST, LARGEST])  # the curvatures between them are shrunk faster
    return Result(
        learning_rates=rates,
        factor=(found[..., -1] / found[..., half]) ** (1 / (config.num_steps - half)),
        predicted=np.abs(1 - rates[:, None] * extremes).max(axis=1),
        steps=np.where(arrived.any(axis=-1), arrived.argmax(axis=-1), np.inf),
        distances={name: found[_at(rates, rate), 0, :200] for name, rate in SHOWN.items()},
    )


def _at(rates: np.ndarray, rate: float) -> int:
    return int(np.argmin(np.abs(rates - rate)))


def check(result: Result) -> list[Claim]:
    rates, steps = result.learning_rates, np.median(result.steps, axis=1)
    fastest = rates[np.argmin(np.median(result.factor, axis=1))]
    ratio = steps[_at(rates, SAFE)] / steps[_at(rates, BEST)]
    expected = np.log((KAPPA - 1) / (KAPPA + 1)) / np.log(1 - 1 / KAPPA)
    # A direction that holds 5 % of the distance halfway and all of it at the end changes the mean
    # factor over 300 steps by ln(20)/300 = 1 %.
    error = np.abs(result.factor / result.predicted[:, None] - 1).max()
    slow = np.mean(np.isfinite(result.steps[_at(rates, SLOW)]))
    stable, beyond = rates < 0.99 * LIMIT, rates > 1.01 * LIMIT
    return [
        at_most("factor a step against max |1 - eta lambda|, largest relative error", error, 0.01),
        # The neighbours on the grid are 8 % away.
        equal(
            "fastest learning rate against 2/(lambda_min + lambda_max)",
            fastest,
            BEST,
            1e-6,
            original="1/lambda_max is optimal for quadratics",
            headline=True,
        ),
        equal(
            "steps at 1/lambda_max against steps at the best rate",
            ratio,
            expected,
            # Starts with four times more or less of a slow direction take 10 % more or less of
            # the ln(1e6) units of time: ln(4) = 1.4 of 13.8.
            0.1 * expected,
            original="1/lambda_max is optimal for quadratics",
        ),
        at_most("largest factor below 2/lambda_max", result.factor[stable].max(), 1.0),
        at_least("smallest factor beyond 2/lambda_max", result.factor[beyond].min(), 1.0),
        at_most("share of runs that arrive in time at 0.2/lambda_max", slow, 0.0),
    ]


def plot(result: Result):
    curves = plot_lines(
        np.arange(len(next(iter(result.distances.values())))),
        result.distances,
        xlabel="step",
        ylabel="distance to the minimum, start = 1",
        yscale="log",
        title=f"1/lambda_max is not the fastest (condition number {KAPPA:g})",
    )
    curves.set_ylim(1e-9, 1e3)
    legend_below(curves, columns=2)
    factors = plot_sensitivity(
        result.learning_rates,
        {"measured": result.factor},
        chosen={"measured": BEST},
        yscale="linear",
        ylabel="factor by which a step shrinks the distance",
        title="Fastest at 2/(lambda_min + lambda_max) (ring), not 1/lambda_max (dotted)",
    )
    predicted = "largest |1 - eta lambda|"
    factors.plot(result.learning_rates, result.predicted, "k--", linewidth=1, label=predicted)
    legend_below(factors)
    for rate in (SAFE, LIMIT):
        factors.axvline(rate, color="0.3", linestyle=":", linewidth=1)
    return {"distances": curves.figure, "factors": factors.figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
