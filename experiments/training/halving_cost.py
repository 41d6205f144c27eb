"""On an ill-conditioned quadratic, halving picks a rate several times as bad as the best.

Question: Is a learning rate that leads after a few steps also the best in the end?

Claim: of 16 learning rates, successive halving in five rungs (8, 8, 16, 32 and 64 steps) takes 3/16
of the steps of running all to the end. Its price is the last loss of what it picks over that of the
best rate. (1) On a quadratic whose curvatures are alike, so that the order of the rates after 8
steps is that after 128, the price is 1 for every start. (2) On an ill-conditioned one it is several
for every start: the rate that is best in the end, near 2 over the largest curvature, overshoots in
the steep direction at first and is out before the slow one counts. (3) On a small network the
median price over seeds has an interval.

Why: Stopping bad runs early saves most of the work of a sweep. On ill-conditioned problems it
favours what starts fast, and the price can be known.

Source: beyond the tutorials; Jamieson, Talwalkar (2016), arXiv:1502.07943; Wu et al. (2018),
Understanding short-horizon bias, arXiv:1803.02021.
Section: beyond A7.
Command: python -m experiments halving_cost
Expected: 3/16 of the steps; prices of 1 where curvatures are alike, 7 where they are 33 apart, and
1.0 on the network.
Time: 7 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below
from jaxopt_tut.training import Vmap, halving, sweep, train

PROBLEMS = ("alike", "ill-conditioned", "network")
RUNGS, KEEP, NUM_RATES = (8, 8, 16, 32, 64), 0.5, 16
CURVATURES = {"alike": (1.0, 0.9), "ill-conditioned": (1.0, 0.03)}
RATES = {
    "alike": np.linspace(0.002, 0.032, NUM_RATES, dtype=np.float32),
    "ill-conditioned": np.linspace(0.1, 1.9, NUM_RATES, dtype=np.float32),
    "network": np.logspace(-2.5, 0.5, NUM_RATES, dtype=np.float32),
}
WIDTHS, BATCH = (8, 16, 1), 32


@dataclasses.dataclass(frozen=True)
class Config:
    """How many starts there are for each problem."""

    num_seeds: int = 40

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=8)


class Result(NamedTuple):
    """Losses at the end of each rung have the shape (rates, seeds, rungs), by problem."""

    losses: dict[str, np.ndarray]
    survivors: dict[str, tuple[np.ndarray, ...]]
    """Of `halving` itself, from the first start."""
    cost: float
    """Steps of `halving` over those of running all."""


def problem(name: str):
    """Return a start, the loss, the batch of a step, and the loss that is judged."""
    if name in CURVATURES:
        curvatures = jnp.array(CURVATURES[name])
        quadratic = lambda w, _: jnp.sum(curvatures * w**2) / 2
        # both directions matter from any start: neither coordinate is near 0
        start = lambda key: 1.0 + 0.2 * jax.random.uniform(key, (2,))
        return start, quadratic, lambda *_: 0.0, lambda w: quadratic(w, None)
    teacher = mlp.init(jax.random.key(7), WIDTHS)
    inputs = jax.random.normal(jax.random.key(8), (512, WIDTHS[0]))

    def loss_fn(params, x):
        return jnp.mean((mlp.apply(params, x) - mlp.apply(teacher, x)) ** 2)

    batch = lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (BATCH, WIDTHS[0]))
    return lambda key: mlp.init(key, WIDTHS), loss_fn, batch, lambda w: loss_fn(w, inputs)


def functions(name: str):
    """Return `start` and `advance`; a state knows its step, so that a rung goes on in it."""
    draw, loss_fn, batch, judge = problem(name)

    def start(rate, key):
        del rate
        start_key, data_key = jax.random.split(key)
        return draw(start_key), data_key, jnp.int32(0)

    def advance(state, rate, key, num_steps):
        del key  # the data have a key of their own, the same for all rates and rungs
        params, data_key, first = state
        batches = lambda step: batch(data_key, first + step)
        after = train(loss_fn, params, optax.sgd(rate), batches, num_steps=num_steps)
        return (after.params, data_key, first + num_steps), judge(after.params)

    return start, advance


def run(config: Config) -> Result:
    losses, survivors, cost = {}, {}, np.nan
    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    for name in PROBLEMS:
        start, advance = functions(name)

        def all_rungs(rate, key, start=start, advance=advance):
            state, found = start(rate, key), []
            for length in RUNGS:
                state, loss = advance(state, rate, key, length)
                found.append(loss)
            return jnp.stack(found)

        swept = sweep(all_rungs, RATES[name], keys=keys, strategy=Vmap())
        losses[name] = np.where(np.isfinite(swept.results), swept.results, np.inf)
        halved = halving(start, advance, RATES[name], keys=keys[:1], rungs=RUNGS, keep=KEEP)
        survivors[name] = halved.survivors
        cost = halved.num_steps / halved.num_steps_of_all
    return Result(losses, survivors, cost)


def picked(losses: np.ndarray) -> list[np.ndarray]:
    """Return what survives each rung, from the losses (rates, rungs) of all: what halving does."""
    alive = [np.arange(len(losses))]
    for rung in range(len(RUNGS) - 1):
        order = np.argsort(losses[alive[-1], rung], kind="stable")
        alive.append(alive[-1][order[: max(1, int(np.ceil(KEEP * len(order))))]])
    return alive


def prices(losses: np.ndarray) -> np.ndarray:
    """Return for each seed the last loss of the pick over that of the best rate."""
    last = losses[..., -1]
    picks = [picked(losses[:, seed])[-1] for seed in range(losses.shape[1])]
    found = [last[pick, seed].min() for seed, pick in enumerate(picks)]
    return np.array(found) / last.min(axis=0)


def price_in_theory() -> float:
    """Return it for the start (1, 1) of the ill-conditioned problem, in closed form."""
    curvatures, steps = np.array(CURVATURES["ill-conditioned"]), np.cumsum(RUNGS)
    rates = RATES["ill-conditioned"].astype(float)
    shrunk = (1 - rates[:, None] * curvatures) ** (2 * steps[:, None, None])
    losses = np.sum(curvatures * shrunk, axis=-1).T / 2
    return float(prices(losses[:, None])[0])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the bootstrap interval of a median, 95 %."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (2000, len(values))), axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def check(result: Result) -> list[Claim]:
    same = [
        np.array_equal(a, b)
        for name in PROBLEMS
        for a, b in zip(result.survivors[name], picked(result.losses[name][:, 0]), strict=True)
    ]
    ill, network = (prices(result.losses[name]) for name in PROBLEMS[1:])
    theory = price_in_theory()
    return [
        # 16 x 8 + 8 x 8 + 4 x 16 + 2 x 32 + 1 x 64 of 16 x 128
        equal("steps of halving over those of all", result.cost, 3 / 16, 0.0),
        equal("rungs whose survivors are those of the whole sweep", sum(same), len(same), 0),
        equal("alike: largest price", float(prices(result.losses["alike"]).max()), 1.0, 0.0),
        # The start moves each coordinate by up to 1.2, the two parts of a loss by up to 1.44.
        at_least("ill-conditioned: smallest price", float(ill.min()), theory / 1.44, headline=True),
        # The best rate of 16 is a neighbour of the pick: a quarter of a decade changes the loss of
        # a network less than two times. The interval is that of the median over seeds.
        at_most("network: upper end of the median price", interval(network)[1], 2.0),
    ]


def plot(result: Result):
    figure = new_figure(11, 3.8)
    for ax, name in zip(figure.subplots(1, 3), PROBLEMS, strict=True):
        medians = np.median(result.losses[name], axis=1)
        steps = np.cumsum(RUNGS)
        lines = {f"{n} steps": medians[:, k] for k, n in enumerate(steps)}
        chosen = picked(result.losses[name][:, 0])[-1][0]
        plot_lines(RATES[name], lines, xlabel="learning rate", ylabel="loss", ax=ax)
        if name != PROBLEMS[1]:  # all three have the same
            ax.get_legend().remove()
        else:
            legend_below(ax, columns=3)  # wider ones push the panels apart
        ax.axvline(RATES[name][chosen], color="0.5", linestyle=":", linewidth=1)
        ax.set_yscale("log")
        if name == "network":
            ax.set_xscale("log")
            ax.set_ylim(None, 10)
        price = float(np.median(prices(result.losses[name])))
        ends = "as low as the best" if price == 1.0 else f"{price:.2g} times as high as the best"
        ax.set_title(f"{name}: the pick (dotted) ends\n{ends}", fontsize="medium")
    return {"rungs": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
