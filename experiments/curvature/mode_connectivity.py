"""A trained curve between two networks has under a fifth of the barrier of the straight line.

Question: Are the minima of two training runs separate valleys?

Claim: on the straight line between two networks that were trained from different starts the loss
rises high above that of both ends. It hardly does so between two networks that were trained
together for a while before they saw different batches. And the two of different starts are joined
by a quadratic Bezier curve, whose one free point was trained, along which hardly any barrier is
left.

Why: Pictures of losses of one parameter suggest separate valleys. If low paths join them, "flat"
and "sharp" are said of places in one connected set.

Source: beyond the tutorials; UvA tutorial 4, on minima; Garipov et al. (2018), Loss surfaces, mode
connectivity, and fast ensembling, https://arxiv.org/abs/1802.10026; Frankle et al. (2020), Linear
mode connectivity, https://arxiv.org/abs/1912.05671.
Section: beyond A10.
Command: python -m experiments mode_connectivity [--data full]
Expected: barrier between two starts 1.35, after a common start 0, along the trained curve .02
Time: 6 s; with --whole, 20 pairs of networks, a minute or two.
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
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.landscape import PathLoss, fit_bezier, linear_path, path_loss
from jaxopt_tut.models import mlp
from jaxopt_tut.optimizers import adam
from jaxopt_tut.plotting import new_figure, plot_path
from jaxopt_tut.plotting.style import COLORS
from jaxopt_tut.training import shuffled, train

CURVE_OPTIMIZER = adam(3e-3)
"""One object, so that its program is found again."""
KINDS = ("two starts", "a common start", "a trained curve")


@dataclasses.dataclass(frozen=True)
class Config:
    """How many pairs of networks, and how long they are trained."""

    num_seeds: int = 3
    num_images: int = 800
    num_common: int = 100
    num_steps: int = 150
    curve_steps: int = 150
    num_points: int = 11
    data: Literal["mini", "full"] = "mini"

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=2, num_steps=20, curve_steps=10, num_points=5)

    def whole(self) -> "Config":
        return dataclasses.replace(
            self, num_seeds=20, num_images=1000, num_steps=400, curve_steps=1000, num_points=31
        )


class Result(NamedTuple):
    """Losses along paths, of shape (seeds, points), and barriers, of shape (seeds,)."""

    t: np.ndarray
    losses: dict[str, np.ndarray]
    barriers: dict[str, np.ndarray]


def loss_fn(params, batch):
    logits = mlp.apply(params, batch.images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()


def run(config: Config) -> Result:
    split = datasets.load(config.data).train
    images = (split.images[: config.num_images].astype(np.float32) / 255 - 0.286) / 0.353
    data = split._replace(images=images, labels=split.labels[: config.num_images])

    @jax.jit
    def trained(params, data, key):
        batches = shuffled(data, batch_size=100, num_epochs=config.num_steps // 10 + 1, key=key)
        run = lambda steps: train(loss_fn, params, adam(1e-3), batches, num_steps=steps).params
        return run(config.num_steps), run(config.num_common)

    init = lambda key: mlp.init(key, (784, 64, 64, 10))
    paths: dict[str, list[PathLoss]] = {kind: [] for kind in KINDS}
    for seed in range(config.num_seeds):
        keys = jax.random.split(jax.random.key(seed), 7)
        (one, early), (other, _) = (trained(init(keys[i]), data, keys[2 + i]) for i in (0, 1))
        twins = [trained(early, data, keys[4 + i])[0] for i in (0, 1)]
        curve = fit_bezier(
            loss_fn,
            one,
            other,
            data,
            key=keys[6],
            optimizer=CURVE_OPTIMIZER,
            num_steps=config.curve_steps,
            batch_size=100,
        )
        found = linear_path(one, other), linear_path(*twins), curve
        for kind, path in zip(KINDS, found, strict=True):
            paths[kind].append(path_loss(loss_fn, path, data, num_points=config.num_points))
    return Result(
        np.asarray(paths[KINDS[0]][0].t),
        {kind: np.stack([one.loss for one in of]) for kind, of in paths.items()},
        {kind: np.stack([one.barrier for one in of]) for kind, of in paths.items()},
    )


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return Student's 95 % interval of a mean over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def check(result: Result) -> list[Claim]:
    apart, common, curve = (result.barriers[kind] for kind in KINDS)
    return [
        # nats: a tenth of the loss of a network that knows nothing, log 10
        at_least("barrier between two starts: lower end of 95 %", interval(apart)[0], 0.23),
        # a fifth of it would still be a barrier; pairs of one seed are compared
        at_most(
            "after a common start, over that: upper end of 95 %", interval(common / apart)[1], 0.2
        ),
        at_most(
            "along a trained curve, over that: upper end of 95 %",
            interval(curve / apart)[1],
            0.2,
            headline=True,
        ),
    ]


def plot(result: Result):
    left, right = (figure := new_figure(10.0, 4.2)).subplots(1, 2)
    mean = {
        kind: PathLoss(jnp.asarray(result.t), losses.mean(axis=0), {}, result.barriers[kind].mean())
        for kind, losses in result.losses.items()
    }
    pairs = f"{len(result.losses[KINDS[0]])} pairs"
    plot_path(
        mean,
        title=f"A trained curve goes round the barrier (mean of {pairs})",
        ax=left,
    )
    left.set_ylabel("loss (nats)")
    for i, kind in enumerate(KINDS):
        right.plot([i] * len(result.barriers[kind]), result.barriers[kind], "o", color=COLORS[i])
    right.set_xticks(range(len(KINDS)), KINDS)
    right.margins(x=0.2)
    right.set_ylabel("barrier (nats)")
    right.set_title("The barrier of each pair of networks", fontsize="medium")
    return {"paths": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
