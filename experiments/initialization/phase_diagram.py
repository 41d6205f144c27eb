"""The nearer to the edge of chaos a deep network starts, the more it learns, by rank.

Question: For which variances of weights and biases does a deep network learn at all?

Claim: over the plane of weight variance and bias variance, networks of 24 layers that take some
dozen steps of Adam reach an accuracy that is highest about the line chi = 1 of mean-field theory,
for tanh, ReLU, GELU and ELU alike: chi is the factor on the gradient's variance per layer, so
that chi^24 is what reaches the first layer. The further chi is from one the less is learnt.

Why: Networks learn along a line, whatever the activation, and mean-field theory draws it without
training: where to look for two hyper-parameters is known beforehand.

Source: beyond the tutorials; Schoenholz et al. (2017), figure 5, for tanh.
Section: beyond A5.
Command: python -m experiments phase_diagram [--data full]
Expected: rank correlations of accuracy and nearness to chi = 1 from .7 to .8, accuracies of .3 to
.5 on the line.
Time: 26 s; 2 minutes with --data full, on a finer grid with more steps.
"""

import dataclasses
import sys
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import rankdata

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.datasets import normalize
from jaxopt_tut.initializers import equal_variance, mean_field, variance_scaling
from jaxopt_tut.optimizers import adam
from jaxopt_tut.plotting import new_figure

ACTIVATIONS = {"tanh": jnp.tanh, "ReLU": jax.nn.relu, "GELU": jax.nn.gelu, "ELU": jax.nn.elu}
NUM_PIXELS = 14 * 14
FINER = 4
"""Steps of the fine grid, on which theory is drawn, in one of the trained grid."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    weight_variances: tuple[float, ...] | None = None
    """By default 8 with the bundled images, 10 with the full ones."""
    bias_variances: tuple[float, ...] | None = None
    """By default 4 and 5."""
    num_steps: int | None = None
    """By default 50 and 200."""
    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    depth: int = 24
    width: int = 32
    batch_size: int = 32
    learning_rate: float = 3e-3

    def quick(self) -> "Config":
        return dataclasses.replace(self, activations=("tanh", "ReLU"), num_steps=40)


class Result(NamedTuple):
    """The trained grid, and a finer one; arrays of shape (bias variances, weight variances)."""

    weight_variances: np.ndarray
    bias_variances: np.ndarray
    accuracy: dict[str, np.ndarray]
    """On test images after training."""
    chi: dict[str, np.ndarray]
    """Factor on the gradient's variance a layer, predicted."""
    depth: int
    fine: tuple[np.ndarray, np.ndarray]
    """Weight and bias variances of the fine grid, on which every `FINER`-th is a trained one."""
    fine_chi: dict[str, np.ndarray]


@partial(jax.jit, static_argnames=("depth", "width", "batch_size"))
def train(key, which, points, order, learning_rate, train, test, depth, width, batch_size):
    """Train one network a point, all from the same draw, and return their test accuracies."""
    names = ("first", "stack", "bias", "head")
    shapes = ((NUM_PIXELS, width), (depth, width, width), (depth, width), (width, 10))
    draws = (
        equal_variance(),
        variance_scaling(1.0, batch_axis=0),
        jax.random.normal,
        equal_variance(),
    )
    white = {
        name: draw(key, shape)
        for name, draw, key, shape in zip(
            names, draws, jax.random.split(key, 4), shapes, strict=True
        )
    }
    # One program for all activations.
    activation = partial(jax.lax.switch, which, list(ACTIVATIONS.values()))

    def logits_of(params, images):
        def layer(z, weights):
            kernel, bias = weights
            return activation(z) @ kernel + bias, None

        z = images @ params["first"]
        z, _ = jax.lax.scan(layer, z, (params["stack"], params["bias"]))
        return activation(z) @ params["head"]

    def loss_fn(params, images, labels):
        logits = logits_of(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    optimizer = adam(learning_rate)

    def step(carry, chosen):
        params, state = carry
        gradients = jax.grad(loss_fn)(params, *(x[chosen] for x in train))
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    def score(point):
        weight_std, bias_std = jnp.sqrt(point)
        params = white | {"stack": weight_std * white["stack"], "bias": bias_std * white["bias"]}
        carry = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, carry, order.reshape(-1, batch_size))
        images, labels = test
        return jnp.mean(jnp.argmax(logits_of(params, images), axis=1) == labels)

    return jax.vmap(score)(points)


def pooled(images, mean, std):
    """Average over squares of 2 x 2 pixels, and bring the result to unit variance."""
    images = normalize(images, mean, std).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    return jnp.asarray(images / images.std()).reshape(-1, NUM_PIXELS)


def refine(values: np.ndarray) -> np.ndarray:
    """Put equal ratios between neighbours, `FINER` in place of one."""
    places = np.arange(FINER * (len(values) - 1) + 1) / FINER
    fine = np.exp(np.interp(places, np.arange(len(values)), np.log(values))).astype(np.float32)
    fine[::FINER] = values
    return fine


def run(config: Config) -> Result:
    is_full = config.data == "full"
    dataset = datasets.load(config.data)
    few = tuple(np.geomspace(0.5, 5, 8)), (0.01, 0.04, 0.16, 0.64)
    many = tuple(np.geomspace(0.5, 5, 10)), (0.01, 0.04, 0.1, 0.3, 0.8)
    weight_variances, bias_variances = (
        np.array(own or default, np.float32)
        for own, default in zip(
            (config.weight_variances, config.bias_variances), many if is_full else few, strict=True
        )
    )
    num_steps = config.num_steps or (200 if is_full else 50)
    sides = [
        (pooled(images, dataset.mean, dataset.std), jnp.asarray(labels))
        for images, labels in (dataset.train, [x[:1000] for x in dataset.test])
    ]
    order_key, *keys = jax.random.split(jax.random.key(0), 1 + len(ACTIVATIONS))
    order = jax.random.permutation(order_key, len(sides[0][0]))[: num_steps * config.batch_size]
    grid = np.meshgrid(weight_variances, bias_variances)
    points = jnp.stack([jnp.asarray(values).ravel() for values in grid], axis=1)
    fine = refine(weight_variances), refine(bias_variances)
    accuracy, fine_chi = {}, {}
    for which, (name, activation) in enumerate(ACTIVATIONS.items()):
        if name not in config.activations:
            continue
        shape = config.depth, config.width, config.batch_size
        scores = train(keys[which], which, points, order, config.learning_rate, *sides, *shape)
        accuracy[name] = np.asarray(scores).reshape(grid[0].shape)
        # Jitted, what leads to other numbers than chi is left out.
        predict = jax.jit(lambda *point, of=activation: mean_field(of, *point).chi)
        fine_chi[name] = np.asarray(predict(*np.meshgrid(*fine)))
    chi = {name: values[::FINER, ::FINER] for name, values in fine_chi.items()}
    return Result(weight_variances, bias_variances, accuracy, chi, config.depth, fine, fine_chi)


def check(result: Result) -> list[Claim]:
    claims, correlations = [], []
    for name, accuracy in result.accuracy.items():
        distance = np.abs(np.log(result.chi[name])).ravel()
        ranks = rankdata(accuracy), rankdata(-distance)
        best = distance[np.argsort(accuracy.ravel())[-3:]].mean()
        correlations.append(np.corrcoef(*ranks)[0, 1])
        claims += [
            # Without a relation the standard error is 1 / sqrt(points - 1).
            at_least(
                f"{name}: rank correlation of accuracy and nearness to the edge",
                correlations[-1],
                2 / np.sqrt(accuracy.size - 1),
            ),
            # Three points that have nothing to do with theory would be at 1 in the mean.
            at_most(
                f"{name}: |log chi| of the best three points over that of all",
                best / distance.mean(),
                0.6,
            ),
        ]
    text = "rank correlation of accuracy and nearness to the edge, smallest of all activations"
    threshold = 2 / np.sqrt(next(iter(result.accuracy.values())).size - 1)
    return [*claims, at_least(text, min(correlations), threshold, headline=True)]


def edges(values: np.ndarray) -> np.ndarray:
    """Return the borders of cells about values, halfway between neighbours in logarithms."""
    logs = np.log(values)
    half = np.diff(logs) / 2
    return np.exp(np.concatenate([[logs[0] - half[0]], logs[:-1] + half, [logs[-1] + half[-1]]]))


def plot(result: Result):
    figure = new_figure(2.9 * len(result.accuracy) + 1.2, 3.8)
    panels = figure.subplots(1, len(result.accuracy), squeeze=False)[0]
    image, highest = None, max(accuracy.max() for accuracy in result.accuracy.values())
    for ax, (name, accuracy) in zip(panels, result.accuracy.items(), strict=True):
        log_chi = np.log(result.fine_chi[name]) * result.depth
        # light where gradients keep their size; beyond exp(±12) nothing changes for the eye
        ground = {"vmin": 0.0, "vmax": 12.0, "cmap": "Greys", "rasterized": True}
        ax.pcolormesh(*map(edges, result.fine), np.abs(log_chi), **ground)
        ax.contour(*result.fine, log_chi, [0.0], colors="black")
        places = np.meshgrid(result.weight_variances, result.bias_variances)
        scores = {"c": accuracy, "vmin": 0.1, "vmax": highest, "cmap": "cividis"}
        image = ax.scatter(*places, s=110, edgecolors="white", zorder=3, clip_on=False, **scores)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks((0.5, 1, 2, 5), ("0.5", "1", "2", "5"))
        ax.set_yticks(result.bias_variances, [f"{v:.2g}" for v in result.bias_variances])
        ax.minorticks_off()
        ax.set_xlabel("weight variance")
        ax.set_title(name, fontsize="medium")
    panels[0].set_ylabel("bias variance")
    assert image is not None
    figure.colorbar(image, ax=list(panels), label="test accuracy")
    figure.suptitle(
        f"Networks of {result.depth} layers learn most about the edge of chaos\n"
        f"(dots: trained; line: chi = 1 by theory; black: chi^{result.depth} beyond exp(±12))",
        fontsize="medium",
    )
    return {"phases": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
