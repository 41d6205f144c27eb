"""BatchNorm's running averages, kept from the centre, raise the loss at the ends of a slice.

Question: Are the cliffs in pictures of loss surfaces with BatchNorm real?

Claim: on a filter-normalised line through a trained network with BatchNorm the loss at the end is
far higher where the running averages stay those of the centre than where they are re-estimated at
each point. At the centre itself the two agree. Re-estimated on all images at once, the loss is that
of a network that normalises by the batch, to rounding: what is gone is an artefact of evaluation,
and no part of the landscape that training sees.

Why: A slice evaluates weights that were never trained, with averages that belong to others. What is
drawn is then a fault of evaluation, which re-estimated averages remove.

Source: beyond the tutorials; Technion tutorial 5, BatchNorm; asked for in dnn-mode-connectivity#8;
Li et al. (2018), https://arxiv.org/abs/1712.09913.
Section: beyond B1.
Command: python -m experiments slices_with_batch_norm [--data full]
Expected: mean loss at the ends 3.1 with frozen averages, 1.7 with re-estimated ones; .55 between
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
from flax import nnx
from scipy import stats

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import datasets, optimizers
from jaxopt_tut.landscape import Slice, random_directions, slice_1d
from jaxopt_tut.plotting import new_figure, plot_slice
from jaxopt_tut.training import fit

HOW = ("frozen", "reestimated", "batch")


@dataclasses.dataclass(frozen=True)
class Config:
    """How many networks, how long they are trained, and how finely they are cut."""

    num_seeds: int = 4
    num_layers: int = 3
    num_epochs: int = 2
    num_images: int = 1000
    num_points: int = 9
    data: Literal["mini", "full"] = "mini"

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=2, num_epochs=1, num_images=200, num_points=5)

    def whole(self) -> "Config":
        return dataclasses.replace(self, num_seeds=20, num_layers=4, num_epochs=10, num_points=51)


class Result(NamedTuple):
    """The losses along one line a network."""

    coords: np.ndarray
    losses: dict[str, np.ndarray]
    """Of each way to normalise, of shape (seeds, points)."""


class Network(nnx.Module):
    """Hidden layers, each with a BatchNorm."""

    def __init__(self, rngs: nnx.Rngs, num_layers: int):
        """Draw the weights."""
        sizes = [784, *[48] * num_layers]
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.norms = nnx.List([nnx.BatchNorm(n, momentum=0.9, rngs=rngs) for n in sizes[1:]])
        self.head = nnx.Linear(48, 10, rngs=rngs)

    def __call__(self, images):
        hidden = images.reshape(len(images), -1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = nnx.relu(norm(layer(hidden)))
        return self.head(hidden)


def loss_fn(model, batch):
    logits = model(batch.images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    few = dataset._replace(
        train=type(dataset.train)(*(a[: config.num_images] for a in dataset.train))
    )
    coords = np.linspace(-1, 1, config.num_points)
    optimizer = optimizers.adam(1e-3)  # one for all, or each has programs of its own
    losses = {how: [] for how in HOW}
    for seed in range(config.num_seeds):
        order, line = jax.random.split(jax.random.key(seed))
        model = fit(
            loss_fn,
            Network(nnx.Rngs(seed), config.num_layers),
            optimizer,
            dataset,
            batch_size=100,
            num_epochs=config.num_epochs,
            key=order,
            progress=False,
        ).params
        (direction,) = random_directions(line, model, 1)
        for how in HOW:
            cut = slice_1d(loss_fn, model, direction, few, coords=coords, statistics=how)
            losses[how].append(np.asarray(cut.loss))
    return Result(coords, {how: np.stack(of) for how, of in losses.items()})


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return Student's 95 % interval of a mean over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def check(result: Result) -> list[Claim]:
    frozen, own, batch = (result.losses[how] for how in HOW)
    middle = len(result.coords) // 2
    ratio = np.log(frozen / own)
    ends = ratio[:, [0, -1]].mean(axis=1)
    return [
        # a fifth more at least; 0 would be no difference, and after two epochs the averages, of the
        # last twenty batches, trail behind the weights by some per cent
        at_least(
            "log loss, frozen over re-estimated, at the ends: lower end of 95 %",
            interval(ends)[0],
            0.2,
            headline=True,
        ),
        at_most(
            "the same at the centre: upper end of 95 % of its size",
            interval(np.abs(ratio[:, middle]))[1],
            0.1,
        ),
        # 1 - .9 is known to eps / (1 - .9), and a norm divides by the root of a variance
        at_most(
            "re-estimated on one batch against normalised by it: largest relative difference",
            np.max(np.abs(own / batch - 1)),
            1e-4,
        ),
    ]


def plot(result: Result):
    axes = (figure := new_figure(11.0, 4.2)).subplots(1, 2)
    show = lambda values, how: Slice((jnp.asarray(result.coords),), values, {}, how)
    mean = {how: show(of.mean(axis=0), how) for how, of in result.losses.items()}
    plot_slice(
        mean,
        xlabel="along a filter-normalised direction",
        ylabel="loss (nats)",
        title=f"Frozen averages raise the ends (mean over {len(result.losses['frozen'])} networks)",
        ax=axes[0],
    )
    ratios = result.losses["frozen"] / result.losses["reestimated"]
    plot_slice(
        {f"network {i}": show(values, "frozen") for i, values in enumerate(ratios[:5])},
        xlabel="along a filter-normalised direction",
        ylabel="loss, frozen over re-estimated",
        yscale="log",
        title="By what factor (a line a network)",
        ax=axes[1],
    )
    return {"slices": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
