"""At equal training loss sharper networks lose less from training to test loss, not more.

Question: Do sharper networks generalise worse?

Claim: networks are trained to one loss at many learning rates and batch sizes. "Flat minima
generalise, sharp ones do not" asks for rank correlations above 0 between sharpness and what is
lost on test images. They are below 0, with the test error and more so with the gap in loss: here
the sharpest networks do best. In units of the weights little is left. The learning rate alone
orders the gaps as well as the eigenvalue does, and among networks of equal rate less is left of the
correlation: large rates make minima flat and, at one training loss, mistakes confident. Intervals
are by bootstrap over the networks, p-values by permutation, within equal rates if it says so.

Why: The tutorial's sentence is about cause, and all that is seen is a correlation, here of the
other sign. A rate that sets both explains it; advice to look for flat minima does not follow.

Source: UvA tutorial 4, its last section; Keskar et al. (2017), On large-batch training; Jiang et
al. (2020), Fantastic generalization measures; Andriushchenko et al. (2023), A modern look at the
relationship between sharpness and generalization.
Section: A10.
Command: python -m experiments sharpness_and_generalization [--data full]
Expected: rank correlations of the largest eigenvalue -.65 with the test error and -.85 with the gap
(-.62 within equal rates), of the rate .62 and .79; adaptive eigenvalue -.28 and -.05. With --whole
(136 networks) eigenvalue -.34 and -.83; ASAM's rise alone has the claim's sign, .24 with the error
Time: 10 s; with --whole 60 s.
"""

import dataclasses
import sys
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from experiments._claims import Claim, at_least, at_most
from experiments._images import load_coarse
from experiments._runner import run_script
from jaxopt_tut.curvature import Ascent, AverageCase, Critical, LargestEigenvalue, sharpness
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS, legend_below

SIZES = (49, 32, 10)
NUM_IMAGES = 1000
KINDS = {
    "largest eigenvalue": LargestEigenvalue(tol=1e-3),
    "eigenvalue, adaptive": LargestEigenvalue(adaptive=True, tol=1e-3),
    "critical sharpness": Critical(),
    "rise in a ball": Ascent(0.05),
    "rise in a ball, adaptive": Ascent(0.3, adaptive=True),
    "rise under noise": AverageCase(0.02, 20),
    "rise under noise, adaptive": AverageCase(0.1, 20, adaptive=True),
    "critical, adaptive": Critical(adaptive=True),
}
CLAIM = "sharp minima generalise worse"


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained; networks that do not get to the target are left out."""

    data: Literal["mini", "full"] = "mini"
    rates: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    batch_sizes: tuple[int, ...] = (16, 32, 64)
    num_seeds: int = 3
    num_kinds: int = 3
    target: float = 0.4
    num_steps: int = 1400
    every: int = 20

    def quick(self) -> "Config":
        return dataclasses.replace(
            self, rates=(0.2, 0.8), batch_sizes=(32, 64), num_kinds=1, num_steps=400, target=0.6
        )

    def whole(self) -> "Config":
        return dataclasses.replace(
            self,
            rates=(0.05, 0.1, 0.2, 0.4, 0.8),
            batch_sizes=(8, 16, 32, 64),
            num_seeds=8,
            num_kinds=len(KINDS),
            target=0.3,
            num_steps=6000,
        )


class Result(NamedTuple):
    """Over the networks that get to the target."""

    rates: np.ndarray
    error: np.ndarray
    """On test images."""
    gap: np.ndarray
    """Test loss minus training loss."""
    sharpness: dict[str, np.ndarray]


def loss_fn(params, batch):
    logits = mlp.apply(params, batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def train_to(config, train, test):
    """Return a function of rates, batch sizes and keys: networks when they get to the target."""
    largest = max(config.batch_sizes)

    def run(rate, batch_size, key):
        init_key, order_key = jax.random.split(key)
        # one program for all batch sizes: what is beyond the size has no weight
        weights = (jnp.arange(largest) < batch_size) / batch_size

        def weighted(params, chosen):
            logits = mlp.apply(params, train[0][chosen])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, train[1][chosen])
            return jnp.sum(losses * weights)

        def step(params, chosen):
            gradient = jax.grad(weighted)(params, chosen)
            return jax.tree.map(lambda w, g: w - rate * g, params, gradient), None

        def some_steps(carry):
            count, params, _ = carry
            key = jax.random.fold_in(order_key, count)
            chosen = jax.random.randint(key, (config.every, largest), 0, NUM_IMAGES)
            params, _ = jax.lax.scan(step, params, chosen)
            return count + 1, params, loss_fn(params, train)

        def is_on_its_way(carry):
            return (carry[2] > config.target) & (carry[0] < config.num_steps // config.every)

        start = 0, mlp.init(init_key, SIZES), jnp.inf
        _, params, loss = jax.lax.while_loop(is_on_its_way, some_steps, start)
        error = jnp.mean(jnp.argmax(mlp.apply(params, test[0]), axis=-1) != test[1])
        return params, loss, loss_fn(params, test), error

    return jax.jit(jax.vmap(run))


def run(config: Config) -> Result:
    images, labels = load_coarse(config.data, block=4)
    order = jax.random.permutation(jax.random.key(1), len(images))
    images, labels = images[order], labels[order]
    train = images[:NUM_IMAGES], labels[:NUM_IMAGES]
    test = images[NUM_IMAGES:], labels[NUM_IMAGES:]
    grid = np.meshgrid(config.rates, config.batch_sizes, np.arange(config.num_seeds))
    rates, sizes, _ = (axis.ravel() for axis in grid)
    init_key, key = jax.random.split(jax.random.key(0))
    keys = jax.random.split(init_key, rates.size)
    runs = train_to(config, train, test)(jnp.asarray(rates, jnp.float32), jnp.asarray(sizes), keys)
    networks, loss, test_loss, error = jax.tree.map(np.asarray, runs)
    there = np.flatnonzero(loss <= config.target)
    chosen = [jax.tree.map(lambda leaf, i=i: leaf[i], networks) for i in there]
    kinds = dict(list(KINDS.items())[: config.num_kinds])
    return Result(
        rates=rates[there],
        error=error[there],
        gap=(test_loss - loss)[there],
        sharpness={
            name: np.array(
                [float(sharpness(loss_fn, w, train, kind=kind, key=key).mean) for w in chosen]
            )
            for name, kind in kinds.items()
        },
    )


def correlation(x, y) -> float:
    """Return the rank correlation, Spearman's."""
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def interval(x, y) -> tuple[float, float]:
    """Return the 95 % interval of the rank correlation, by bootstrap over the networks."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(x), (1000, len(x)))
    ranks = [stats.rankdata(np.asarray(values)[draws], axis=1) for values in (x, y)]
    return tuple(np.quantile(_products(*ranks), [0.025, 0.975]))


def within(x, y, rates) -> tuple[float, float]:
    """Return the rank correlation within equal rates, and its two-sided p by permutation."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(rates == rate) for rate in np.unique(rates)]
    groups = [group for group in groups if len(group) > 1]
    first = np.concatenate([_centred(x[group]) for group in groups])
    others = [_centred(y[group]) for group in groups]
    shuffled = [rng.permuted(np.tile(ranks, (2000, 1)), axis=1) for ranks in others]
    by_chance = _products(np.tile(first, (2000, 1)), np.concatenate(shuffled, axis=1))
    value = _products(first[None], np.concatenate(others)[None])[0]
    # the order that was found is one of the permutations
    beyond = np.sum(np.abs(by_chance) >= abs(value) - 1e-12)
    return float(value), float((1 + beyond) / 2001)


def chance(x, y) -> float:
    """Return the two-sided p of a rank correlation by permutation."""
    return within(x, y, np.zeros(len(x)))[1]


def _centred(values: np.ndarray) -> np.ndarray:
    """Return ranks, evenly around 0 and of one size however many there are."""
    return stats.rankdata(values) / (len(values) + 1) - 0.5


def _products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the correlation of every row with its partner."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    return (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))


def check(result: Result) -> list[Claim]:
    eigenvalue = result.sharpness["largest eigenvalue"]
    overall = correlation(eigenvalue, result.gap)
    inside, _ = within(eigenvalue, result.gap, result.rates)
    _, high = interval(eigenvalue, result.gap)
    low, _ = interval(eigenvalue, result.error)
    return [
        # Below 20 networks no interval of a rank correlation is shorter than .8.
        at_least("networks that get to the loss", len(result.rates), 20),
        at_most(
            "eigenvalue and gap in loss: upper end of the 95 % interval",
            high,
            0.0,
            original=CLAIM,
            headline=True,
        ),
        at_most("eigenvalue and gap: p by permutation", chance(eigenvalue, result.gap), 0.01),
        at_most(
            "eigenvalue and test error: lower end of the 95 % interval", low, 0.0, original=CLAIM
        ),
        # The rate can stand for the eigenvalue if it is about as strong, and then less is left of
        # the latter among networks of one rate.
        at_least(
            "rate and gap in loss, over eigenvalue and gap, in size",
            abs(correlation(result.rates, result.gap)) / abs(overall),
            2 / 3,
        ),
        at_most(
            "eigenvalue and gap within equal rates, over that of all, in size",
            abs(inside) / abs(overall),
            0.9,
        ),
    ]


def plot(result: Result):
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    eigenvalue = result.sharpness["largest eigenvalue"]
    colors = ("#0A4C86", "#2A8CD8", "#00A264", "#AE8D00", "#A84000")
    for color, rate in zip(colors, np.unique(result.rates), strict=False):
        here = result.rates == rate
        left.plot(eigenvalue[here], result.gap[here], "o", color=color, label=f"{rate:g}")
    left.set_xscale("log", base=2)
    left.set_xlabel("largest eigenvalue")
    left.set_ylabel("test loss minus training loss")
    left.set_title("At one training loss sharper networks have smaller gaps", fontsize="medium")
    left.legend(title="learning rate", frameon=False)
    rows = {**result.sharpness, "learning rate": result.rates}
    for shift, label, marker, color, values in (
        (0.17, "test error", "s", COLORS[0], result.error),
        (-0.17, "gap in loss", "o", COLORS[1], result.gap),
    ):
        places = np.arange(len(rows))[::-1] + shift
        means = np.array([correlation(row, values) for row in rows.values()])
        ends = np.array([interval(row, values) for row in rows.values()]).T
        right.errorbar(
            means,
            places,
            xerr=np.abs(ends - means),
            fmt=marker,
            color=color,
            label=f"{label}, all",
            capsize=2,
        )
        inside = [within(row, values, result.rates)[0] for row in result.sharpness.values()]
        right.plot(
            inside,
            places[:-1],
            marker,
            color=color,
            markerfacecolor="none",
            label=f"{label}, within equal rates",
        )
    right.axvline(0.0, color="black", linestyle="--", linewidth=1)
    right.set_yticks(np.arange(len(rows))[::-1], list(rows))
    right.set_xlim(-1, 1)
    right.set_xlabel("rank correlation, 95 % interval")
    right.set_title("Sharpness against what is lost on test images", fontsize="medium")
    legend_below(right, columns=2)
    return {"correlations": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
