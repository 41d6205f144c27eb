"""Behind Xavier and tanh the variance does not settle near .25: below .1 is left at layer 20.

Question: Does the variance of the signal settle behind many tanh layers that start from Xavier?

Claim: the tutorial says that behind its five layers the variance of tanh with Xavier stabilises
(near .25). It does not: the fixed point of q -> E[tanh(sqrt(q) z)^2] is 0, approached as 1/(2 l),
so at layer 20 about .027 is left. Two things hold it. The gain 1.59 has a fixed point at 1, but in
the chaotic phase: gradients grow by 1.18 a layer. A bias variance of .05 with its critical weight
variance 1.76 lies on the edge of chaos: variance .57 and gradients of one size in all layers.
Theory is the mean-field recursion, image by image; at width n it is off by about depth / n.

Why: Five layers look settled and twenty are not: whoever makes the tutorial's network deeper loses
the signal. The cure is not a larger weight variance alone but weights and biases on the edge of
chaos.

Source: UvA tutorial 4, its paragraph on tanh; Schoenholz et al. (2017) for the edge.
Section: A5.
Command: python -m experiments deep_tanh [--data full]
Expected: Xavier .053 at layer 10, .027 at 20; gain 1.0 and edge .57 at all layers.
Time: 10 s.
"""

import dataclasses
import sys
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.datasets import normalize
from jaxopt_tut.initializers import (
    critical,
    equal_variance,
    gain,
    normal,
    variance_map,
    variance_scaling,
)
from jaxopt_tut.plotting import new_figure, plot_profile

BIAS_VARIANCE = 0.05
XAVIER, GAIN, EDGE = "Xavier", "gain of tanh", "edge of chaos"


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    num_seeds: int = 12
    depth: int = 50
    width: int = 256
    num_images: int = 64

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=8)


class Result(NamedTuple):
    """For each initializer, arrays of shape (seeds, layers) or (layers,)."""

    variances: dict[str, np.ndarray]
    """Of the pre-activations."""
    gradients: dict[str, np.ndarray]
    """Mean squares of the pre-activations' cotangents, over that of the last layer."""
    predicted: dict[str, np.ndarray]
    q_star: float
    """Variance that the edge of chaos should hold."""
    chi: dict[str, float]
    """Factor on the gradient's mean square a layer: Var[w] d_in E[tanh'^2] at the fixed point."""
    width: int


@partial(jax.jit, static_argnames=("depth", "width"))
def measure(key, images, weight_variance, bias_variance, depth, width):
    """Send images down a deep tanh network, and a random cotangent back up."""
    first_key, weight_key, bias_key, cotangent_key = jax.random.split(key, 4)
    first = images @ equal_variance()(first_key, (images.shape[1], width))
    kernel_init, bias_init = variance_scaling(weight_variance), normal(jnp.sqrt(bias_variance))

    def layer(z, inputs):
        weight_key, bias_key, nudge = inputs
        kernel, bias = kernel_init(weight_key, (width, width)), bias_init(bias_key, (width,))
        z = jnp.tanh(z) @ kernel + bias + nudge
        return z, z

    def forward(nudges):
        keys = jax.random.split(weight_key, depth - 1), jax.random.split(bias_key, depth - 1)
        last, rest = jax.lax.scan(layer, first + nudges[0], (*keys, nudges[1:]))
        return last, jnp.concatenate([first[None], rest])

    last, pull_back, outputs = jax.vjp(forward, jnp.zeros((depth, *first.shape)), has_aux=True)
    # The derivative with respect to a zero added to a pre-activation is its cotangent.
    (cotangents,) = pull_back(jax.random.normal(cotangent_key, last.shape))
    gradients = jnp.mean(jnp.square(cotangents), axis=(1, 2))
    return jnp.var(outputs, axis=(1, 2)), gradients / gradients[-1]


@partial(jax.jit, static_argnames="depth")
def predict(images, weight_variance, bias_variance, depth):
    """Iterate the variance map for each image, and average over the images."""

    def step(q, _):
        return variance_map(jnp.tanh, q, weight_variance, bias_variance), jnp.mean(q)

    return jax.lax.scan(step, jnp.mean(jnp.square(images), axis=1), length=depth)[1]


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    images = normalize(dataset.train.images[: config.num_images], dataset.mean, dataset.std)
    images = images.reshape(config.num_images, -1)
    edge = critical(jnp.tanh, BIAS_VARIANCE)
    forward, backward = float(gain(jnp.tanh)), float(gain(jnp.tanh, mode="backward"))
    points = {
        XAVIER: (1.0, 0.0),
        GAIN: (forward**2, 0.0),
        EDGE: (float(edge.weight_variance), BIAS_VARIANCE),
    }
    shape = {"depth": config.depth, "width": config.width}
    keys = jax.random.split(jax.random.key(0), (len(points), config.num_seeds))
    runs = {
        name: [measure(key, images, *point, **shape) for key in row]
        for (name, point), row in zip(points.items(), keys, strict=True)
    }
    return Result(
        variances={name: np.stack([row[0] for row in rows]) for name, rows in runs.items()},
        gradients={name: np.stack([row[1] for row in rows]) for name, rows in runs.items()},
        predicted={n: np.asarray(predict(images, *p, config.depth)) for n, p in points.items()},
        q_star=float(edge.q_star),
        chi={GAIN: (forward / backward) ** 2, EDGE: 1.0},
        width=config.width,
    )


def check(result: Result) -> list[Claim]:
    num_seeds, depth = result.variances[XAVIER].shape
    layer = min(20, depth) - 1
    claims = [
        at_most(
            f"Xavier: variance at layer {layer + 1}",
            result.variances[XAVIER][:, layer].mean(),
            0.1,
            original="it says that the variance settles near .25; it decays like 1 / (2 layer)",
            headline=True,
        )
    ]
    for name, runs in result.variances.items():
        error = runs.std(axis=0, ddof=1) / np.sqrt(num_seeds)
        # Finite width biases layer l by a relative l / width, to leading order.
        allowed = 4 * error + np.arange(1, depth + 1) / result.width * result.predicted[name]
        worst = np.max(np.abs(runs.mean(axis=0) - result.predicted[name]) / allowed)
        claims.append(at_most(f"{name}: error of the theory over the error allowed", worst, 1.0))
    for name in (GAIN, EDGE):
        logs = np.log(result.gradients[name][:, 0]) / (depth - 1)  # sizes multiply
        # Width n biases a layer's logarithm by half the relative variance of a mean square, 3 / n.
        slack = 4 * logs.std(ddof=1) / np.sqrt(num_seeds) + 3 / result.width
        growth = float(np.exp(logs.mean()))
        claims.append(
            equal(f"{name}: growth of the gradient a layer", growth, result.chi[name], slack)
        )
    last = result.variances[EDGE][:, -1]
    slack = 4 * last.std(ddof=1) / np.sqrt(num_seeds) + depth / result.width * result.q_star
    text = "edge of chaos: variance of the last layer"
    claims.append(equal(text, last.mean(), result.q_star, slack))
    return claims


def plot(result: Result):
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    plot_profile(
        result.variances,
        predicted=result.predicted,
        ylabel="variance of the pre-activations",
        title="Behind Xavier the variance falls, on the edge it stays",
        ax=left,
    )
    left.axhline(0.25, color="black", linestyle=":", linewidth=1)
    left.annotate("the tutorial's .25", (30, 0.25), xytext=(0, 4), textcoords="offset points")
    plot_profile(
        result.gradients,
        ylabel="mean square of the gradient\nover that of the last layer",
        title="With the gain gradients explode, on the edge they stay",
        ax=right,
    )
    return {"depth": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
