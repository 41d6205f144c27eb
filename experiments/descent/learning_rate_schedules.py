"""From a rate of .4 schedules that fall end at least 2 % below the constant rate.

Question: What is gained by a learning rate that changes during training?

Claim: on the bundled images, with stochastic gradients from batches of 32, schedules that fall
(step, exponential, cosine, warm-up and cosine) from a large learning rate end at a lower training
loss than the same rate held constant, which the noise of the batches holds up. From a small rate
the exponential, which is the first to be small, ends higher than the constant. Where the rate is
too large for the start, warm-up keeps the loss from rising in the first steps, and ends lower than
the same schedule without.

Why: With noisy gradients a constant rate stops at a floor that the noise holds up. Falling rates go
below it, and warm-up protects the first steps from a rate that is good later.

Source: Technion tutorial 5, learning-rate schedules; schedules of optax; warm-up as in Goyal et al.
(2017), section 2.2.
Section: B1.
Command: python -m experiments learning_rate_schedules [--data full]
Expected: final loss over that of the constant rate .4: step .91, exponential .95, cosine .83,
warm-up and cosine .80.
Time: 17 s.
"""

import dataclasses
import sys
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._images import load_coarse
from experiments._runner import run_script
from jaxopt_tut.models import mlp
from jaxopt_tut.optimizers import sgd
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below

SIZES = (196, 64, 10)
SMALL, LARGE, TOO_LARGE = RATES = (0.1, 0.4, 0.8)
CONSTANT, WARM, COLD = "constant", "warm-up, cosine", "cosine"


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    num_steps: int = 700
    num_seeds: int = 8
    """Over 24 the gain of warm-up is 12 %, six standard errors; with three, rounding decides."""
    batch_size: int = 32

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=6)


def schedules(peak: float, num_steps: int) -> dict[str, optax.Schedule]:
    """Return optax's schedules, which all start at or rise to the same rate."""
    half, three_quarters = num_steps // 2, 3 * num_steps // 4
    return {
        CONSTANT: optax.constant_schedule(peak),
        "step": optax.piecewise_constant_schedule(peak, {half: 0.1, three_quarters: 0.1}),
        "exponential": optax.exponential_decay(peak, num_steps, 0.01),
        COLD: optax.cosine_decay_schedule(peak, num_steps),
        WARM: optax.warmup_cosine_decay_schedule(0.0, peak, num_steps // 10, num_steps),
    }


class Result(NamedTuple):
    """Arrays of shape (rates, schedules, seeds), the rates as `RATES`."""

    names: tuple[str, ...]
    rates: np.ndarray
    """Of the schedules that rise to or start at `LARGE`, shape (schedules, steps)."""
    losses: np.ndarray
    """On all training images, at the end."""
    highest: np.ndarray
    """Mean loss of ten batches on end, the largest of the first tenth of the steps."""
    curves: np.ndarray
    """Mean over seeds, and over 20 steps on end; of `LARGE`, shape (schedules, steps / 20)."""


def loss_fn(params, images, labels):
    logits = mlp.apply(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def run(config: Config) -> Result:
    images, labels = load_coarse(config.data, 2)
    names = tuple(schedules(1.0, config.num_steps))
    steps = jnp.arange(config.num_steps)
    tables = jnp.array(
        [
            [jnp.broadcast_to(schedule(steps), steps.shape) for schedule in of.values()]
            for of in (schedules(rate, config.num_steps) for rate in RATES)
        ]
    )

    def train(key, table):
        init_key, batch_key = jax.random.split(key)
        params = mlp.init(init_key, SIZES)
        optimizer = sgd(lambda count: table[count])

        def step(carry, key):
            params, state = carry
            rows = jax.random.randint(key, (config.batch_size,), 0, len(images))
            loss, grads = jax.value_and_grad(loss_fn)(params, images[rows], labels[rows])
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), loss

        keys = jax.random.split(batch_key, config.num_steps)
        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return loss_fn(params, images, labels), losses

    every = jax.vmap(jax.vmap(jax.vmap(train, (0, None)), (None, 0)), (None, 0))
    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    ends, losses = jax.device_get(jax.jit(every)(keys, tables))
    means = lambda of, width: of.reshape(*of.shape[:-1], -1, width).mean(axis=-1)
    return Result(
        names,
        np.asarray(tables[RATES.index(LARGE)]),
        ends,
        means(losses[..., : config.num_steps // 10], 10).max(axis=-1),
        means(losses[RATES.index(LARGE)], 20).mean(axis=1),
    )


def check(result: Result) -> list[Claim]:
    mean = result.losses.mean(axis=-1)
    end = {
        rate: dict(zip(result.names, row, strict=True))
        for rate, row in zip(RATES, mean, strict=True)
    }
    falling = {n: end[LARGE][n] / end[LARGE][CONSTANT] for n in result.names if n != CONSTANT}
    claims = [
        at_most(f"{name} over constant, learning rate {LARGE:g}: final loss", ratio, 0.98)
        for name, ratio in falling.items()
    ]
    text = f"schedules that fall over constant, learning rate {LARGE:g}: largest final loss"
    claims.append(at_most(text, max(falling.values()), 0.98, headline=True))
    at = [result.names.index(name) for name in (WARM, COLD)]
    highest = result.highest[RATES.index(TOO_LARGE)].mean(axis=-1)
    return [
        *claims,
        at_least(
            f"exponential over constant, learning rate {SMALL:g}: final loss",
            end[SMALL]["exponential"] / end[SMALL][CONSTANT],
            1.05,
        ),
        at_most(
            f"warm-up over none, learning rate {TOO_LARGE:g}: highest early loss",
            highest[at[0]] / highest[at[1]],
            0.9,
        ),
        at_most(
            f"warm-up over none, learning rate {TOO_LARGE:g}: final loss",
            end[TOO_LARGE][WARM] / end[TOO_LARGE][COLD],
            1.0,
        ),
    ]


def plot(result: Result):
    figure = new_figure(11.0, 4.6)
    left, right = figure.subplots(1, 2)
    num_steps = result.rates.shape[1]
    plot_lines(
        np.arange(num_steps),
        dict(zip(result.names, result.rates, strict=True)),
        xlabel="step",
        ylabel="learning rate",
        title="All but the constant end near zero",
        ax=left,
    )
    plot_lines(
        np.arange(10, num_steps, 20),
        dict(zip(result.names, result.curves, strict=True)),
        xlabel="step",
        ylabel="loss of the batches (nats)",
        yscale="log",
        title="They end lower (mean of 20 batches and all seeds)",
        ax=right,
    )
    for ax in (left, right):
        legend_below(ax, columns=3)
    return {"schedules": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
