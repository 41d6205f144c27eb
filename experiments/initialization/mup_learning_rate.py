"""In the maximal update parametrisation the best rate goes with width to the power ±.3 at most.

Question: Does a learning rate that was tuned on a narrow network serve a wide one?

Claim: a fully connected network trained by Adam wants a smaller learning rate the wider it is: in
the standard parametrisation, with one rate for all leaves, the rate that is best for the narrowest
network is several times too large for the widest. With the factors of `mup_multipliers`, read off
the shapes at two widths, the best rate stays where it was, and carried over from the narrowest
network it costs the widest next to nothing.

Why: Tuning a large network is dear, tuning a small one is not. Rates carry over only if the
initialization and the rates of the layers are scaled with the width in the right way.

Source: beyond the tutorials; Yang, Hu et al. (2022), figure 1 and table 3.
Section: beyond A4.
Command: python -m experiments mup_learning_rate [--data full]
Expected: exponent of the best rate in the width: standard -.7, maximal update -.1; loss of the
widest at the narrowest's best rate, over its best: 1.07 and 1.00.
Time: 9 s.
"""

import dataclasses
import itertools
import sys
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, between, equal
from experiments._images import load_coarse
from experiments._runner import run_script
from jaxopt_tut.calibration import mup_multipliers, width_axes
from jaxopt_tut.models import mlp
from jaxopt_tut.optimizers import adam
from jaxopt_tut.plotting import new_figure, plot_lines, plot_sensitivity
from jaxopt_tut.plotting.style import legend_below

PARAMETRISATIONS = ("standard", "maximal update")
NUM_INPUTS, DEPTH = 49, 3


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    widths: tuple[int, ...] | None = None
    """By default 64 to 1024 on the full images, 32 to 128 on the bundled ones."""
    num_seeds: int | None = None
    """By default 2 on the full images, 4 on the bundled ones."""
    num_steps: int = 80
    batch_size: int = 32

    def quick(self) -> "Config":
        return dataclasses.replace(self, widths=(32, 128))


class Result(NamedTuple):
    """What was found for each width."""

    widths: np.ndarray
    rates: np.ndarray
    losses: np.ndarray
    """Mean of the last quarter of the batches; (widths, parametrisations, rates, seeds)."""
    hidden: tuple[str, ...]
    """The leaves that grow along two axes."""


def make_params(width: int):
    return mlp.init(jax.random.key(0), (NUM_INPUTS, *[width] * DEPTH, 10))


def draw(width: int, seed: int):
    """Draw Kaiming's weights on the host: JAX would compile a generator for every shape."""
    rng = np.random.default_rng((seed, width))
    layers = jax.eval_shape(lambda: make_params(width))
    gains = [1.0] + [2.0] * DEPTH  # the images went through no ReLU
    return tuple(
        {
            "kernel": np.float32(rng.standard_normal(layer["kernel"].shape))
            * np.float32(np.sqrt(gain / layer["kernel"].shape[0])),
            "bias": np.zeros(layer["bias"].shape, np.float32),
        }
        for layer, gain in zip(layers, gains, strict=True)
    )


def factors(base: int, width: int):
    """Return the factors of both parametrisations, each a pair: of init, and of learning rate."""
    ones = jax.tree.map(lambda _: 1.0, jax.eval_shape(lambda: make_params(width)))
    standard = (ones, ones)
    if width == base:  # where the two are the same
        return standard, standard
    return standard, tuple(mup_multipliers(make_params, base, width, optimizer="adam"))


def loss_fn(params, images, labels):
    logits = mlp.apply(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def train(images, labels, params, factors, rates, rows):
    """Train every run; return the mean loss of the last quarter of its batches."""

    def one(params, factors, rate, rows):
        optimizer = adam(rate)

        def step(carry, batch):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params, images[batch], labels[batch])
            updates, state = optimizer.update(grads, state)
            updates = jax.tree.map(jnp.multiply, updates, factors)
            return (optax.apply_updates(params, updates), state), loss

        losses = jax.lax.scan(step, (params, optimizer.init(params)), rows)[1]
        return losses[-(len(rows) // 4) :].mean()

    return jax.vmap(one)(params, factors, rates, rows)


def run(config: Config) -> Result:
    images, labels = load_coarse(config.data, 4)
    is_full = config.data == "full"
    widths = config.widths or ((64, 128, 256, 512, 1024) if is_full else (32, 64, 128))
    rates = 2.0 ** np.arange(-12 if is_full else -10, -3, dtype=np.float32)
    num_seeds = config.num_seeds or (2 if is_full else 4)
    shape = (num_seeds, config.num_steps, config.batch_size)
    rows = np.random.default_rng(0).integers(len(images), size=shape)
    seeds = range(num_seeds)
    every = list(itertools.product(range(len(PARAMETRISATIONS)), rates, seeds))
    losses = []
    for width in widths:
        both, drawn = factors(widths[0], width), [draw(width, seed) for seed in seeds]
        runs = [
            (
                jax.tree.map(lambda w, factor: np.float32(factor) * w, drawn[seed], both[i][0]),
                jax.tree.map(np.float32, both[i][1]),
                rate,
                rows[seed],
            )
            for i, rate, seed in every
        ]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
        found = np.asarray(train(images, labels, *stacked))
        losses.append(found.reshape(len(PARAMETRISATIONS), len(rates), len(seeds)))
    axes = width_axes(make_params, (widths[0], widths[-1]))
    hidden = tuple(name for name, grown in axes.items() if len(grown) == 2)
    return Result(np.array(widths), rates, np.asarray(losses), hidden)


def best_rates(rates: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Find the best rate of each row: the lowest point of a parabola through three logarithms.

    Args:
      rates: Each twice the one before, shape (rates,).
      losses: Shape (widths, rates); a run that overflowed counts as infinitely bad.

    Returns:
      The rates, shape (widths,).
    """
    best = []
    for curve in np.where(np.isfinite(losses), losses, np.inf):
        k = int(np.argmin(curve))
        shift = 0.0
        if 0 < k < len(rates) - 1 and np.isfinite(curve[k - 1 : k + 2]).all():
            left, middle, right = curve[k - 1 : k + 2]
            bend = left - 2 * middle + right
            shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
        best.append(rates[k] * 2.0**shift)
    return np.array(best)


def slope(result: Result, losses: np.ndarray) -> float:
    """Fit the exponent with which the best rate changes with width."""
    best = best_rates(result.rates, losses)
    return float(np.polyfit(np.log(result.widths), np.log(best), 1)[0])


def carried(losses: np.ndarray) -> np.ndarray:
    """Return each width's loss at the rate that is best for the first width."""
    losses = np.where(np.isfinite(losses), losses, np.inf)
    return losses[:, losses[0].argmin()]


def check(result: Result) -> list[Claim]:
    standard, maximal = np.moveaxis(result.losses.mean(axis=-1), 1, 0)
    at_best = [np.nanmin(losses, axis=1)[-1] for losses in (standard, maximal)]
    at_carried = [carried(losses)[-1] for losses in (standard, maximal)]
    return [
        equal("width_axes: leaves that grow along two axes", len(result.hidden), DEPTH - 1, 0),
        # A best rate is known to a third of an octave or so: over two octaves of width, an exponent
        # to a quarter. Theory says -1 for hidden weights in the one and 0 in the other.
        at_most("standard: exponent of the best rate in width", slope(result, standard), -0.5),
        between(
            "maximal update: exponent of the best rate in width",
            slope(result, maximal),
            -0.3,
            0.3,
            headline=True,
        ),
        # Losses of single seeds scatter by some 3 %, means of four by half of that.
        at_least(
            "standard: loss of the widest at the narrowest's best rate, over its best",
            at_carried[0] / at_best[0],
            1.03,
        ),
        at_most(
            "maximal update: loss of the widest at the narrowest's best rate, over its best",
            at_carried[1] / at_best[1],
            1.05,
        ),
        at_most(
            "maximal update, the narrowest's best rate: loss of the widest over the narrowest's",
            at_carried[1] / carried(maximal)[0],
            1.0,
        ),
    ]


def plot(result: Result):
    figure = new_figure(13.5, 4.8)
    *panels, last = figure.subplots(1, 3)
    titles = {
        "standard": "Standard: the best rate falls with width",
        "maximal update": "Maximal update: it hardly changes",
    }
    best = {}
    for i, (name, ax) in enumerate(zip(PARAMETRISATIONS, panels, strict=True)):
        losses = result.losses[:, i]
        best[name] = best_rates(result.rates, losses.mean(axis=-1))
        scores = {f"width {w}": of for w, of in zip(result.widths, losses, strict=True)}
        chosen = {f"width {w}": rate for w, rate in zip(result.widths, best[name], strict=True)}
        plot_sensitivity(
            result.rates,
            scores,
            chosen=chosen,
            ylabel="loss of the last batches (nats)",
            title=titles[name],
            ax=ax,
        )
        ax.set_ylim(0.95 * np.nanmin(result.losses), 1.05 * np.nanmax(result.losses[0]))
        legend_below(ax, columns=2)
    plot_lines(
        result.widths,
        best,
        xlabel="width",
        ylabel="best learning rate",
        xscale="log",
        yscale="log",
        title="Best rate by width (of a parabola)",
        ax=last,
    )
    last.set_xticks(result.widths, [str(w) for w in result.widths])
    shown = np.concatenate(list(best.values()))
    last.set_yticks(result.rates, [f"{rate:.5f}" for rate in result.rates])
    last.set_ylim(shown.min() / 1.5, shown.max() * 1.5)
    last.minorticks_off()
    legend_below(last)
    return {"best_rates": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
