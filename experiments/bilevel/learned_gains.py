"""Gains learned by hypergradient lead to a lower loss than Kaiming's, in as many steps.

Question: Would training itself choose the gains that Kaiming derived?

Claim: a ReLU network whose weights start at a gain of .7 hardly passes a signal. One gain a layer
is learned by descending the validation loss after twelve training steps, through these steps. The
product of the gains rises to that of Kaiming's, a root of 2 a layer, within a factor of 4, though
nothing says so but the loss. It is not Kaiming's rule that is found: the first layer gets less, the
middle ones more. With these gains new networks, drawn from other seeds, are ahead of Kaiming's
after as many steps on new batches. They were learned for these few steps, and it shows: after four
times as many most of the lead is gone. Kaiming's gains cost nothing to find.

Why: The derivation keeps the variance, which is a means. Learning the gains for the loss shows how
near that means is to the end, and what it misses in the first and middle layers.

Source: beyond the tutorials; Dauphin and Schoenholz (2019), section 3, with the loss of the
training run itself; He et al. (2015), eq. (10), for the root of 2.
Section: beyond B4.
Command: python -m experiments learned_gains [--data full]
Expected: product over Kaiming's 1.9; losses 1.56 against 1.68 after 12 steps, .96 against .99 after
48.
Time: 12 s.
"""

import dataclasses
import sys
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import numpy as np
import optax

from experiments._claims import Claim, at_least, between
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.bilevel import Unroll, argmin
from jaxopt_tut.bilevel.recipes import learn_initializer
from jaxopt_tut.datasets import normalize
from jaxopt_tut.initializers import gain
from jaxopt_tut.optimizers import adam, sgd
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS, tidy

START = 0.7
LEARNED, KAIMING, UNSCALED = "learned", "Kaiming", "start"
# clipped: a run that diverges would tell nothing about the gains
SOLVER = optax.chain(optax.clip_by_global_norm(1.0), sgd(0.1))
LONGER = 4


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    num_seeds: int = 5
    width: int = 48
    num_hidden: int = 5
    batch_size: int = 64
    inner_steps: int = 12
    num_steps: int = 40
    """Of the gains."""

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=4, num_steps=30)


class Result(NamedTuple):
    """By seed along axis 0."""

    gains: np.ndarray
    """Learned, by layer."""
    kaiming: float
    outer_losses: np.ndarray
    """Of each outer step."""
    short: dict[str, np.ndarray]
    """Validation losses of new networks after as many steps as the gains were learned for."""
    long: dict[str, np.ndarray]
    """After four times as many."""


def init(rng: np.random.Generator, sizes) -> list[np.ndarray]:
    """Draw kernels of gain 1."""
    return [rng.normal(0, a**-0.5, (a, b)).astype(np.float32) for a, b in pairwise(sizes)]


def loss_fn(params, batch):
    x, labels = batch
    *hidden, last = params
    for kernel in hidden:
        x = jax.nn.relu(x @ kernel)
    return optax.softmax_cross_entropy_with_integer_labels(x @ last, labels).mean()


@partial(jax.jit, static_argnames="num_steps")
@partial(jax.vmap, in_axes=(0, 0, 0, None))
def learn_gains(params, batches, validation, num_steps):
    options = {"solver": SOLVER, "optimizer": adam(0.06), "diff": Unroll()}
    return learn_initializer(loss_fn, params, batches, validation, num_steps=num_steps, **options)


@jax.jit
@partial(jax.vmap, in_axes=(0, None, None, None))  # of one set of gains after another
@partial(jax.vmap, in_axes=(None, 0, 0, 0))  # of one seed after another
def train_and_validate(gains, params, batches, validation):
    """Return the validation losses after the first steps and after all."""
    start = [factor * kernel for factor, kernel in zip(gains, params, strict=True)]
    inner = lambda y, _, batch: loss_fn(y, batch)

    def train(y, batches):
        return argmin(inner, y, (), solver=SOLVER, steps=len(batches[1]), batches=batches).y

    quarter = len(batches[1]) // LONGER
    early = train(start, jax.tree.map(lambda a: a[:quarter], batches))
    late = train(early, jax.tree.map(lambda a: a[quarter:], batches))
    return loss_fn(early, validation), loss_fn(late, validation)


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    rng, seeds, size = np.random.default_rng(0), config.num_seeds, config.batch_size
    pool, rest = (prepare(*split, dataset) for split in (dataset.train, dataset.test))
    sizes = [pool[0].shape[1], *[config.width] * config.num_hidden, 10]

    def draw(data, *shape):
        places = rng.integers(len(data[1]), size=(seeds, *shape))
        return tuple(array[places] for array in data)

    def networks():
        return [np.stack(k) for k in zip(*(init(rng, sizes) for _ in range(seeds)), strict=True)]

    batches = draw(pool, config.inner_steps, size)
    started = [START * kernel for kernel in networks()]
    found = learn_gains(started, batches, draw(pool, 512), config.num_steps)
    gains = START * np.stack(found.value, axis=1)
    kaiming = float(gain(jax.nn.relu))
    rows = {
        LEARNED: np.exp(np.log(gains).mean(axis=0)),
        KAIMING: np.full(len(sizes) - 1, kaiming),
        UNSCALED: np.full(len(sizes) - 1, START),
    }
    every = np.stack(list(rows.values())).astype(np.float32)
    batches = draw(pool, LONGER * config.inner_steps, size)
    losses = train_and_validate(every, networks(), batches, draw(rest, 512))
    short, long = (dict(zip(rows, np.asarray(loss), strict=True)) for loss in losses)
    return Result(gains, kaiming, np.asarray(found.losses), short, long)


def prepare(images, labels, dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return coarse images of variance 1 about 0, and their labels."""
    scaled = np.asarray(normalize(images, dataset.mean, dataset.std))
    coarse = scaled.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(labels), -1)
    return coarse, labels


def check(result: Result) -> list[Claim]:
    num_layers = result.gains.shape[1]
    product = np.prod(result.gains / result.kaiming, axis=1)
    middle = float(np.exp(np.log(product).mean()))

    def in_errors(values) -> float:
        """Return how many standard errors over the seeds the mean lies above 0."""
        return float(values.mean() / (values.std(ddof=1) / np.sqrt(len(values))))

    lead = lambda losses, rival: losses[rival] - losses[LEARNED]
    early, late = lead(result.short, KAIMING), lead(result.long, KAIMING)
    log_gains = np.log(result.gains)
    middle_less_first = log_gains[:, 1:-1].mean(axis=1) - log_gains[:, 0]
    return [
        # The start is (.7 / 1.41)^6 = .015 of it. Logits four times too large or too small still
        # train: cross-entropy then saturates or is flat for a few steps only.
        between(f"product of {num_layers} gains over Kaiming's", middle, 0.25, 4.0),
        # All of these are pairs by seed: two standard errors of the differences.
        at_least(
            "middle gains above that of the first layer, in errors",
            in_errors(middle_less_first),
            2.0,
        ),
        at_least(
            "as many steps: lead over Kaiming's gains, in errors",
            in_errors(early),
            2.0,
            headline=True,
        ),
        at_least(
            "as many steps: lead over the start's, in errors",
            in_errors(lead(result.short, UNSCALED)),
            2.0,
        ),
        at_least(
            "four times as many: lead over Kaiming's lost, in errors", in_errors(early - late), 2.0
        ),
    ]


def plot(result: Result):
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    layers = np.arange(1, result.gains.shape[1] + 1)
    left.plot(layers, result.gains.T, "o", color=COLORS[0], markersize=4, alpha=0.6)
    left.plot(layers, np.exp(np.log(result.gains).mean(axis=0)), color=COLORS[0], label=LEARNED)
    left.axhline(result.kaiming, color=COLORS[1], linestyle="--", label=KAIMING)
    left.axhline(START, color="0.5", linestyle=":", label=UNSCALED)
    left.legend(frameon=False)
    tidy(
        left,
        xlabel="layer",
        ylabel="gain; a dot a seed",
        title="The first layer gets less than the middle ones",
    )
    for i, name in enumerate((LEARNED, KAIMING, UNSCALED)):
        for shift, losses in ((-0.2, result.short), (0.2, result.long)):
            right.bar(i + shift, losses[name].mean(), 0.36, color=COLORS[0 if shift < 0 else 5])
            right.plot(np.full(len(losses[name]), i + shift), losses[name], "ko", markersize=3)
    right.set_xticks(range(3), (LEARNED, KAIMING, UNSCALED))
    tidy(
        right,
        xlabel="initial gains of new networks",
        ylabel="validation loss",
        title="Ahead after as many steps (dark), hardly after four times (light)",
    )
    return {"gains_and_losses": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
