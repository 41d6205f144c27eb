"""Rescaling the layers of a ReLU network makes the same function over forty times sharper.

Question: Is sharpness a property of the function that a network computes?

Claim: multiplying the first layer of a trained ReLU network by a number and dividing the second by
it changes no output, and yet the largest eigenvalue of the Hessian, SAM's rise in a ball, the mean
rise under noise and the critical sharpness change by any factor, so that none of them alone can
decide how well a minimum generalises. Measured in units of the weights they stay: the eigenvalue
of |w| H |w|, ASAM's rise, noise in proportion to the weights, steps in proportion to their squares.

Why: If the same function can be made as sharp as one likes, a number that changes cannot explain
how well it generalises. Measures in units of the weights do not have this fault.

Source: beyond the tutorials (UvA tutorial 4 says that sharp minima generalise worse); Dinh et al.
(2017), Sharp minima can generalize for deep nets; Kwon et al. (2021), ASAM.
Section: beyond A10.
Command: python -m experiments sharp_by_rescaling [--data full]
Expected: from a factor of 1 to one of 64 the eigenvalue goes from 7.3 to 17 600, the critical
sharpness from 6.2 to 16 800, rises grow 150 and 990 times; in units of the weights nothing changes
Time: 6 s.
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
from jaxopt_tut.curvature import Ascent, AverageCase, Critical, LargestEigenvalue, sharpness
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import look

SIZES = (49, 16, 10)
KINDS = {
    "largest eigenvalue": (LargestEigenvalue(), LargestEigenvalue(adaptive=True)),
    "rise in a ball": (Ascent(0.02), Ascent(0.05, adaptive=True)),
    "rise under noise": (AverageCase(0.02, 20), AverageCase(0.05, 20, adaptive=True)),
    "critical sharpness": (Critical(), Critical(adaptive=True)),
}
"""Each plain, and in units of the weights."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained, and by how much layers are rescaled."""

    data: Literal["mini", "full"] = "mini"
    num_images: int = 500
    num_steps: int = 300
    num_doublings: int = 6
    """The first layer is multiplied by 2 that often; powers of 2 round nothing."""

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_images=100, num_steps=50)


class Result(NamedTuple):
    """Over the factors."""

    factors: np.ndarray
    change: np.ndarray
    """The largest change of an output, over the largest output."""
    plain: dict[str, np.ndarray]
    adaptive: dict[str, np.ndarray]


def loss_fn(params, batch):
    logits = mlp.apply(params, batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


@jax.jit
def train(params, batch, steps):
    """Take a step of gradient descent for each entry of `steps`, a rate."""
    step = lambda params, rate: (
        jax.tree.map(lambda w, g: w - rate * g, params, jax.grad(loss_fn)(params, batch)),
        None,
    )
    return jax.lax.scan(step, params, steps)[0]


def rescaled(params, factor):
    """Multiply the first layer by a number and divide the second by it: the same function."""
    first, second = params
    return (
        {"kernel": factor * first["kernel"], "bias": factor * first["bias"]},
        {"kernel": second["kernel"] / factor, "bias": second["bias"]},
    )


def run(config: Config) -> Result:
    images, labels = load_coarse(config.data, block=4)
    batch = images[: config.num_images], labels[: config.num_images]
    init_key, key = jax.random.split(jax.random.key(0))
    params = train(mlp.init(init_key, SIZES), batch, jnp.full(config.num_steps, 0.3))
    factors = 2.0 ** np.arange(config.num_doublings + 1)
    networks = [rescaled(params, np.float32(factor)) for factor in factors]
    outputs = np.stack([mlp.apply(network, batch[0]) for network in networks])
    measured = {
        name: np.array(
            [
                [float(sharpness(loss_fn, w, batch, kind=kind, key=key).mean) for kind in kinds]
                for w in networks
            ]
        )
        for name, kinds in KINDS.items()
    }
    return Result(
        factors=factors,
        change=np.abs(outputs - outputs[0]).max(axis=(1, 2)) / np.abs(outputs[0]).max(),
        plain={name: values[:, 0] for name, values in measured.items()},
        adaptive={name: values[:, 1] for name, values in measured.items()},
    )


def check(result: Result) -> list[Claim]:
    # Powers of 2 round nothing; what is left is the order of sums.
    claims = [at_most("largest change of an output", result.change.max(), 1e-5)]
    for name, values in result.plain.items():
        ratio = values.max() / values.min()
        text = f"{name}: largest over smallest, one function"
        claims.append(at_least(text, ratio, 40.0, headline=name == "largest eigenvalue"))
    for name, values in result.adaptive.items():
        # Rises are differences of losses of order .1, which are rounded to 1e-8, and of order 1e-3;
        # the search of the critical rate ends within 1e-2 and interpolates.
        change = values.max() / values.min() - 1
        claims.append(at_most(f"{name}, in units of the weights: relative change", change, 1e-3))
    return claims


def plot(result: Result):
    figure = new_figure(9, 3.6)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    titles = "Plain: one function, ever sharper", "In units of the weights: no change"
    for ax, title, rows in zip(axes, titles, (result.plain, result.adaptive), strict=True):
        for i, (name, values) in enumerate(rows.items()):
            ax.plot(result.factors, values / values[0], label=name, **look(i))
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlabel("factor of the first layer, and divisor of the second")
        ax.set_title(title, fontsize="medium")
    axes[0].set_ylabel("sharpness, over that of the trained network")
    for ax in axes:
        ax.legend(frameon=False)
    return {"rescaling": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
