"""A hundred plain tanh layers get half of the images right from critical, orthogonal weights.

Question: Can a plain tanh network of a hundred or a thousand layers learn, without residuals or
normalisation?

Claim: a fully connected tanh network without residual connections or normalisation, its layers the
steps of a `lax.scan`, learns at once where `critical` puts the weight variance and `orthogonal`
draws the weights: its Jacobian keeps nearly all directions (half of them over 1 000 layers). From
Xavier it hardly does at 100 layers and not at all at 1 000, at the best of three rates of plain
SGD: its variance is critical for tanh too, but the signal dies like 1 / (2 l) and the singular
values spread over decades. Critical Gaussian weights keep the signal and lose the directions. The
learning rate that serves goes down with the depth: about 1 / depth.

Why: The experiment separates two things that depth destroys, the size of the signal and its
directions: the right variance keeps the first, and only orthogonal weights keep the second.

Source: beyond the tutorials; Pennington, Schoenholz, Ganguli (2017), Xiao et al. (2018).
Section: beyond A5.
Command: python -m experiments thousand_layers [--data full]
Expected: test accuracy: critical and orthogonal .73 at 100 layers and .71 at 1 000; Gaussian .36
and .1, Xavier .28 and .1.
Time: 18 s for 100 layers; 2 minutes with --data full, which takes all images and 1 000 layers.
"""

import dataclasses
import sys
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.datasets import Split, normalize
from jaxopt_tut.initializers import (
    critical,
    equal_variance,
    normal,
    orthogonal,
    variance_scaling,
    xavier_normal,
)
from jaxopt_tut.optimizers import sgd
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below

ISOMETRIC, GAUSSIAN, XAVIER = "critical, orthogonal", "critical, Gaussian", "Xavier"
STARTS = (ISOMETRIC, GAUSSIAN, XAVIER)
BIAS_VARIANCE = 2e-5
"""So small that tanh is nearly linear at the fixed point: that is what lets lengths be kept."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    depth: int | None = None
    """By default 1 000 with the full images, 100 with the bundled ones."""
    num_steps: int = 150
    rates: tuple[float, ...] = (0.3, 1.0, 3.0)
    """Learning rates, times the depth."""
    width: int = 64
    batch_size: int = 32
    num_test: int = 1000
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_steps=100, rates=(1.0,))


class Result(NamedTuple):
    """For each start, arrays whose first axis is that of the rates."""

    rates: np.ndarray
    """Times the depth."""
    losses: dict[str, np.ndarray]
    """One a step."""
    accuracy: dict[str, np.ndarray]
    """On the test images, after the last step."""
    singular_values: dict[str, np.ndarray]
    """Of the Jacobian from the first pre-activations to the last, at the start."""
    depth: int
    num_test: int


@partial(jax.jit, static_argnames=("start", "depth", "width"))
def draw(key, edge, start, depth, width):
    """Draw a network whose hidden layers are stacked along the first axis."""
    first_key, stack_key, bias_key, head_key = jax.random.split(key, 4)
    first, stack, bias_std = xavier_normal(), xavier_normal(), 0.0
    if start != XAVIER:
        # The signal starts at the fixed point.
        first, bias_std = variance_scaling(edge.q_star), BIAS_VARIANCE**0.5
        stack = variance_scaling(edge.weight_variance)
    if start == ISOMETRIC:
        stack = orthogonal(jnp.sqrt(edge.weight_variance))
    keys = jax.random.split(stack_key, depth)
    return {
        "first": first(first_key, (784, width)),
        "stack": jax.vmap(lambda key: stack(key, (width, width)))(keys),
        "bias": normal(bias_std)(bias_key, (depth, width)),
        "head": equal_variance()(head_key, (width, 10)),
    }


def descend(params, z):
    """Send pre-activations down all hidden layers."""

    def layer(z, weights):
        kernel, bias = weights
        return jnp.tanh(z) @ kernel + bias, None

    return jax.lax.scan(layer, z, (params["stack"], params["bias"]))[0]


def logits_of(params, images):
    return jnp.tanh(descend(params, images @ params["first"])) @ params["head"]


def loss_fn(params, images, labels):
    logits = logits_of(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@partial(jax.jit, static_argnames="batch_size")
def train(params, learning_rate, order, train, test, batch_size):
    """Take one step of SGD for each batch in `order`; return all losses and the test accuracy."""
    optimizer = sgd(learning_rate)

    def step(carry, chosen):
        params, state = carry
        loss, gradients = jax.value_and_grad(loss_fn)(params, *(x[chosen] for x in train))
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), loss

    batches = order.reshape(-1, batch_size)
    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    images, labels = test
    return losses, jnp.mean(jnp.argmax(logits_of(params, images), axis=1) == labels)


@jax.jit
def jacobian_spectrum(params, image):
    jacobian = jax.jacfwd(partial(descend, params))(image @ params["first"])
    return jnp.linalg.svd(jacobian, compute_uv=False)


def run(config: Config) -> Result:
    is_full = config.data == "full"
    dataset = datasets.load(config.data)
    depth = config.depth or (1000 if is_full else 100)
    sides = [
        (
            jnp.asarray(normalize(side.images, dataset.mean, dataset.std)).reshape(-1, 784),
            jnp.asarray(side.labels),
        )
        for side in (dataset.train, Split(*(x[: config.num_test] for x in dataset.test)))
    ]
    draw_key, order_key = jax.random.split(jax.random.key(config.seed))
    order = jax.random.permutation(order_key, len(sides[0][0]))[
        : config.num_steps * config.batch_size
    ]
    edge = critical(jnp.tanh, BIAS_VARIANCE)
    result = Result(np.array(config.rates), {}, {}, {}, depth, len(sides[1][1]))
    for name in STARTS:
        params = draw(draw_key, edge, name, depth, config.width)
        runs = [
            jax.device_get(train(params, rate / depth, order, *sides, config.batch_size))
            for rate in config.rates
        ]
        result.losses[name] = np.stack([losses for losses, _ in runs])
        result.accuracy[name] = np.array([accuracy for _, accuracy in runs])
        result.singular_values[name] = np.asarray(jacobian_spectrum(params, sides[0][0][0]))
    return result


def check(result: Result) -> list[Claim]:
    # A rate that diverges counts as chance: NaN has no largest entry, so class 0 is chosen.
    best = {name: scores.max() for name, scores in result.accuracy.items()}
    # Of the difference of two accuracies on independent images, an upper bound on the same ones.
    error = np.sqrt(2 * best[ISOMETRIC] * (1 - best[ISOMETRIC]) / result.num_test)
    kept = {n: float(np.mean(v > v[0] / 10)) for n, v in result.singular_values.items()}
    depth = f"{result.depth} layers"
    return [
        # Half of the classes told apart would be .5; chance is .1.
        at_least(
            f"{ISOMETRIC}, {depth}: test accuracy at its best rate",
            best[ISOMETRIC],
            0.5,
            headline=True,
        ),
        *(
            at_least(
                f"{ISOMETRIC} ahead of {name}, in standard errors of the test",
                (best[ISOMETRIC] - best[name]) / error,
                4.0,
            )
            for name in (GAUSSIAN, XAVIER)
        ),
        # At 100 layers its slow start can still tell a few classes apart: four at the most.
        at_most(
            f"{XAVIER}, {depth}: test accuracy at its best rate",
            best[XAVIER],
            0.4 if result.depth < 1000 else 0.2,
        ),
        # Squared slopes 1 - 2 z^2 have a relative variance of 8 q*^2 = .005 a layer: it comes to .5
        # over 100 layers, and to 5 over 1 000.
        at_least(
            f"{ISOMETRIC}: share of directions within a decade of the largest",
            kept[ISOMETRIC],
            0.9 if result.depth < 1000 else 0.3,
        ),
        at_most(f"{XAVIER}: the same", kept[XAVIER], 0.2),
        at_most(f"{GAUSSIAN}: the same", kept[GAUSSIAN], 0.2),
    ]


def plot(result: Result):
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    window = max(1, result.losses[XAVIER].shape[1] // 15)
    curves = {}
    for name, losses in result.losses.items():
        place = int(result.accuracy[name].argmax())
        label = f"{name}, rate {result.rates[place]:g} / depth"
        curves[label] = np.convolve(losses[place], np.full(window, 1 / window), mode="valid")
    plot_lines(
        np.arange(len(next(iter(curves.values())))),
        curves,
        xlabel="step of SGD",
        ylabel=f"training loss, mean of {window} steps",
        title=f"Orthogonal weights learn best ({result.depth} layers, best rates)",
        ax=left,
    )
    legend_below(left, columns=1)
    plot_lines(
        np.arange(1, 1 + len(result.singular_values[XAVIER])),
        {name: np.maximum(values, 1e-12) for name, values in result.singular_values.items()},
        xlabel="rank",
        ylabel="singular value of the Jacobian",
        yscale="log",
        title="Orthogonal weights keep directions (below 1e-7: rounding)",
        ax=right,
    )
    return {"training": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
