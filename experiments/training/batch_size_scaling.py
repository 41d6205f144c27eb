"""The best rate of SGD grows less from large batches than from small ones: no power law holds.

Question: How should the learning rate change when the batch becomes larger?

Claim: at a fixed number of updates of a small network on noisy labels, the rate that ends nearest
to the clean function grows with the batch size while gradients are mostly noise, and hardly once
they are not: no power law holds from one example to 256. "Linear scaling" (slope 1 on log-log axes)
is not reached even by the smaller half of the sizes, and the larger half is below "square-root
scaling" (1/2). Slopes are fitted to the best rates, interpolated between those tried, and have
bootstrap intervals over seeds.

Why: "Linear scaling" is used as a law. It is a limit for batches that are mostly noise; beyond
that, a larger batch no longer allows a larger rate.

Source: beyond the tutorials; Goyal et al. (2017), arXiv:1706.02677; McCandlish et al. (2018), An
empirical model of large-batch training, arXiv:1812.06162.
Section: beyond B1.
Command: python -m experiments batch_size_scaling
Expected: slope of the smaller half .46 to .86, of the larger half -.03 to .29; it bends at 16 to 32
Time: 20 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below
from jaxopt_tut.training import Vmap, sweep, train

WIDTHS, NUM_DATA, NOISE = (8, 16, 1), 1024, 2.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Batch sizes, rates, starts and updates."""

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    num_rates: int = 25
    num_seeds: int = 16
    num_steps: int = 150

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_rates=13, num_seeds=6, batch_sizes=(1, 4, 16, 64, 256))

    def whole(self) -> "Config":
        return dataclasses.replace(self, num_seeds=32)


class Result(NamedTuple):
    """Losses over all data have the shape (sizes, rates, seeds)."""

    batch_sizes: np.ndarray
    rates: np.ndarray
    losses: np.ndarray


def run(config: Config) -> Result:
    teacher = mlp.init(jax.random.key(7), WIDTHS)
    x = jax.random.normal(jax.random.key(8), (NUM_DATA, WIDTHS[0]))
    clean = mlp.apply(teacher, x)
    y = clean + NOISE * jax.random.normal(jax.random.key(9), clean.shape)

    def loss_fn(params, batch):
        return jnp.mean((mlp.apply(params, batch[0]) - batch[1]) ** 2) / 2

    def last_loss(size):
        def one(rate, key):
            start, draws = jax.random.split(key)

            def batch(step):
                at = jax.random.randint(jax.random.fold_in(draws, step), (size,), 0, NUM_DATA)
                return x[at], y[at]

            after = train(
                loss_fn, mlp.init(start, WIDTHS), optax.sgd(rate), batch,
                num_steps=config.num_steps,
            )  # fmt: skip
            # what is left of the distance to the teacher, not of the noise that nobody can fit
            return loss_fn(after.params, (x, clean))

        return one

    rates = np.logspace(-3.5, 0.5, config.num_rates, dtype=np.float32)
    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    swept = [
        sweep(last_loss(size), rates, keys=keys, strategy=Vmap()).scores()
        for size in config.batch_sizes
    ]
    return Result(np.array(config.batch_sizes), rates.astype(float), np.array(swept))


def best_rates(rates: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return for each batch size the logarithm of the best rate, at the vertex of a parabola.

    The median over seeds does not ask by how much those that diverged are worse.
    """
    medians, logs = np.median(losses, axis=2), np.log2(rates)
    found = []
    for row in medians:
        at = int(np.clip(np.argmin(row), 1, len(row) - 2))
        left, middle, right = np.log(row[at - 1 : at + 2])
        bend = left - 2 * middle + right
        shift = (left - right) / (2 * bend) if np.isfinite(bend) and bend > 0 else 0.0
        found.append(logs[at] + np.clip(shift, -0.5, 0.5) * (logs[1] - logs[0]))
    return np.array(found)


def slopes(result: Result, losses: np.ndarray) -> tuple[float, float]:
    """Return the slopes over the smaller and over the larger half of the sizes."""
    logs, best = np.log2(result.batch_sizes), best_rates(result.rates, losses)
    half = len(logs) // 2 + 1
    fit = lambda x, y: float(np.polyfit(x, y, 1)[0])
    return fit(logs[:half], best[:half]), fit(logs[-half:], best[-half:])


def intervals(result: Result) -> np.ndarray:
    """Return the bootstrap intervals over seeds, 95 %: small sizes, large ones, the bend."""
    rng, num = np.random.default_rng(0), result.losses.shape[2]
    drawn = [slopes(result, result.losses[..., rng.integers(0, num, num)]) for _ in range(500)]
    small, large = np.array(drawn).T
    return np.quantile([small, large, small - large], [0.025, 0.975], axis=1).T


def check(result: Result) -> list[Claim]:
    small, large, bend = intervals(result)
    return [
        # A law of one power has no bend: the interval of the difference would hold 0.
        at_least("bend: lower end of the difference of slopes", bend[0], 0.0, headline=True),
        at_least("smaller half: lower end of the slope", small[0], 0.0),
        # the intervals against the two laws: this is the finding
        at_most("larger half: upper end of the slope, against 1/2", large[1], 0.5),
        at_most(
            "smaller half: upper end of the slope, against 1", small[1], 1.0, required=False,
            original="the best rate is proportional to the batch",
        ),
    ]  # fmt: skip


def plot(result: Result):
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    sizes, medians = result.batch_sizes, np.median(result.losses, axis=2)
    shown = {f"batch {n}": row for n, row in zip(sizes[::2], medians[::2], strict=True)}
    plot_lines(result.rates, shown, xlabel="learning rate", ylabel="loss on clean labels", ax=left)
    left.set_title("The best rate moves up with the batch", fontsize="medium")
    legend_below(left, columns=3)
    left.set_xscale("log")
    left.set_yscale("log")
    best = 2 ** best_rates(result.rates, result.losses)
    lines = {
        "best rate": best,
        "slope 1": best[0] * sizes / sizes[0],
        "slope 1/2": best[0] * np.sqrt(sizes / sizes[0]),
    }
    plot_lines(sizes, lines, xlabel="batch size", ylabel="best learning rate", ax=right)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_title("It grows with small batches more than with large ones", fontsize="medium")
    return {"best_rates": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
