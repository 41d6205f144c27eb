"""A network of endless depth classifies images as well as one of 64 layers.

Question: Can a layer be applied without end, and trained without keeping its steps?

Claim: a layer whose output is fed back to it until nothing changes classifies the images as well as
the same layer applied 64 times, weights shared, and differentiated through all of them: to two
standard errors of the difference on the test images. At the weights found both have the same
gradient to a thousandth. The memory of the derivative of the unrolled network grows like its depth,
that of the equilibrium does not, whatever number of steps it may take. Backpropagation through one
application at the equilibrium, with no linear system at all, is no gradient, but points within
sixty degrees of it and learns as well. Not in its favour: the linear system keeps sixty vectors, so
that a network of 16 layers takes less memory, and less time. Time is drawn, not judged.

Why: Memory often limits depth. The implicit derivative needs the fixed point alone, though for a
network of few layers unrolling is the cheaper way.

Source: beyond the tutorials; Bai, Kolter and Koltun (2019), sections 3 and 4, Fung et al. (2022)
for one application, El Ghaoui et al. (2021) for rows of absolute sum below 1, with which a layer
contracts.
Section: beyond B4.
Command: python -m experiments deep_equilibrium [--data full]
Expected: test accuracy .82 of all three; memory of 16, 64, 256 layers 1.3, 4.8, 19 MB, of the
equilibrium 3.4, of one application .6; gradients 6e-5 apart, a cosine of .99.
Time: 30 s.
"""

import dataclasses
import sys
import time
from typing import Literal, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, equal
from experiments._images import load_coarse
from experiments._runner import run_script
from jaxopt_tut.bilevel import Anderson, Implicit, OneStep, Picard, Unroll, layers
from jaxopt_tut.optimizers import adam
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import legend_below, look, tidy

DEPTHS = (16, 64, 256)
"""Layers, or steps at most; four times as many each."""
DEPTH = 64
"""Of the unrolled network that learns."""
UNROLLED, EQUILIBRIUM, ONE_STEP = "unrolled", "equilibrium", "one application"
NETWORKS = {
    UNROLLED: {"solver": Picard(), "diff": Unroll()},
    EQUILIBRIUM: {"solver": Anderson(), "tol": 1e-4, "diff": Implicit(tol=1e-4)},
    ONE_STEP: {"solver": Anderson(), "tol": 1e-4, "diff": OneStep()},
}
LIPSCHITZ = 0.9
"""Of the layer, at most: the largest absolute sum of a row."""
NUM_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    width: int = 64
    num_steps: int = 400
    """Of the optimizer."""
    batch_size: int = 100
    num_test: int = 1000
    num_timings: int = 5

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_steps=150, num_timings=1)


class Result(NamedTuple):
    """By network."""

    accuracies: dict[str, float]
    """Of the test images."""
    num_test: int
    losses: dict[str, np.ndarray]
    """Of the training batches, one a step."""
    gradients: dict[str, np.ndarray]
    """Of one batch, at the weights that the equilibrium has learned, in one vector."""
    num_bytes: dict[str, np.ndarray]
    """Temporary memory of the compiled gradient, one for each of `DEPTHS`."""
    seconds: dict[str, np.ndarray]
    """Of one call, the least of some."""


def start(key: jax.Array, num_inputs: int, width: int) -> dict[str, jax.Array]:
    keys = jax.random.split(key, 3)
    draw = lambda key, rows, columns: jax.random.normal(key, (rows, columns)) / columns**0.5
    return {
        "inner": draw(keys[0], width, width),
        "outer": draw(keys[1], width, num_inputs),
        "bias": jnp.zeros(width),
        "head": draw(keys[2], NUM_CLASSES, width),
    }


def layer(params, y, x):
    sums = jnp.sum(jnp.abs(params["inner"]), axis=1, keepdims=True)
    inner = LIPSCHITZ * params["inner"] / jnp.maximum(sums, 1.0)
    return jnp.tanh(y @ inner.T + x @ params["outer"].T + params["bias"])


def logits(params, images, network, depth):
    first = jnp.zeros((len(images), len(params["bias"])))
    y = layers.deq(layer, params, images, y0=first, steps=depth, **NETWORKS[network])
    return y @ params["head"].T


def loss(params, batch, network, depth):
    images, labels = batch
    scores = logits(params, images, network, depth)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))


def train(config: Config, network: str, images, labels):
    """Return the weights after all steps, and the loss of each."""
    optimizer = adam(3e-3)
    params = start(jax.random.key(0), images.shape[1], config.width)

    @jax.jit
    def learn(params):
        def step(carry, key):
            params, state = carry
            chosen = jax.random.randint(key, (config.batch_size,), 0, len(images))
            batch = images[chosen], labels[chosen]
            value, grads = jax.value_and_grad(loss)(params, batch, network, DEPTH)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        keys = jax.random.split(jax.random.key(1), config.num_steps)
        (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return params, values

    return learn(params)


def run(config: Config) -> Result:
    images, labels = load_coarse(config.data, 4)
    order = jax.random.permutation(jax.random.key(2), len(images))
    test, seen = order[: config.num_test], order[config.num_test :]
    accuracies, values, learned = {}, {}, {}
    for network in NETWORKS:
        params, losses = train(config, network, images[seen], labels[seen])
        guesses = jnp.argmax(logits(params, images[test], network, DEPTH), axis=1)
        accuracies[network] = float(jnp.mean(guesses == labels[test]))
        values[network], learned[network] = np.asarray(losses), params

    params = learned[EQUILIBRIUM]
    batch = images[seen[: config.batch_size]], labels[seen[: config.batch_size]]
    size = lambda program: program.memory_analysis().temp_size_in_bytes
    gradients, sizes, seconds = {}, {}, {}
    for network in NETWORKS:
        rows = []
        for depth in DEPTHS:
            gradient = jax.jit(jax.grad(loss), static_argnums=(2, 3))
            program = gradient.lower(params, batch, network, depth).compile()
            found = jax.block_until_ready(program(params, batch))
            times = []
            for _ in range(config.num_timings):
                begin = time.perf_counter()
                jax.block_until_ready(program(params, batch))
                times.append(time.perf_counter() - begin)
            rows.append((size(program), min(times)))
        gradients[network] = np.asarray(jax.flatten_util.ravel_pytree(found)[0])
        sizes[network], seconds[network] = map(np.array, zip(*rows, strict=True))
    return Result(accuracies, config.num_test, values, gradients, sizes, seconds)


def check(result: Result) -> list[Claim]:
    unrolled = result.accuracies[UNROLLED]
    # ten classes are guessed with .1; linear models of these images come to about .75
    claims = [at_least("test accuracy of the unrolled network", unrolled, 0.75)]
    # two standard errors of the difference of two shares of so many images
    error = 2 * float(np.sqrt(2 * unrolled * (1 - unrolled) / result.num_test))
    for name in (EQUILIBRIUM, ONE_STEP):
        apart = abs(result.accuracies[name] - unrolled)
        text = f"{name}: accuracy apart from the unrolled network's"
        claims.append(at_most(text, apart, error, headline=name == EQUILIBRIUM))

    exact = result.gradients[UNROLLED]
    off = result.gradients[EQUILIBRIUM] - exact
    apart = float(np.linalg.norm(off) / np.linalg.norm(exact))
    # the tolerances of the point and of the linear system, 1e-4, over 1 - .9
    claims.append(at_most("gradients of both networks, relative difference", apart, 1e-3))
    short = result.gradients[ONE_STEP]
    cosine = float(short @ exact / np.linalg.norm(short) / np.linalg.norm(exact))
    claims.append(at_least("cosine of one application's direction and the gradient", cosine, 0.5))

    growth = np.diff(result.num_bytes[UNROLLED])
    exponent = np.log(growth[1] / growth[0]) / np.log(DEPTHS[1] / DEPTHS[0])
    # loop counters may come and go beside the layers kept
    claims.append(equal("unrolled: exponent of the depth in the memory", exponent, 1.0, 0.02))
    for name in (EQUILIBRIUM, ONE_STEP):
        ratio = result.num_bytes[name][-1] / result.num_bytes[name][0]
        text = f"{name}: memory at 256 steps over that at 16"
        claims.append(equal(text, ratio, 1.0, 0.01))
    return claims


def plot(result: Result):
    figure = new_figure(13, 4.6)
    axes = figure.subplots(1, 3)
    for i, (name, losses) in enumerate(result.losses.items()):
        smooth = np.convolve(losses, np.ones(20) / 20, "valid")
        style = {"label": name, "color": look(i)["color"], "linestyle": look(i)["linestyle"]}
        axes[0].plot(np.arange(len(smooth)) + 20, smooth, **style)
    names = {"xlabel": "step of Adam", "ylabel": "loss, mean of 20 batches"}
    tidy(axes[0], **names, title="All three learn alike")
    rows = {"temporary memory, MB": result.num_bytes, "seconds of one gradient": result.seconds}
    titles = ["The equilibrium's memory stays the same", "Its time levels off"]
    for ax, title, (ylabel, row) in zip(axes[1:], titles, rows.items(), strict=True):
        scale = 2**20 if "MB" in ylabel else 1
        for i, (name, values) in enumerate(row.items()):
            ax.plot(DEPTHS, values / scale, label=name, **look(i))
        ax.set_xscale("log", base=4)
        ax.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        ax.set_yscale("log")
        tidy(ax, xlabel="layers, or steps at most", ylabel=ylabel, title=title)
    legend_below(axes[1], columns=3)
    return {"equilibrium": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
