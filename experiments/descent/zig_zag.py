"""From the worst start an exact line search takes as many steps as the best constant rate.

Question: What stops gradient descent from zig-zagging across a valley?

Claim: on a linear regression with two inputs of very different scale, gradient descent zig-zags
across the valley. An exact line search does not cure that: successive gradients are orthogonal, and
from the worst start it is no faster than the best constant step. Momentum at the gradient's step
size averages the zig-zag away; at its own best step size and decay it turns as sharply as the
gradient, but needs about the root of the condition number in steps instead of the condition number.
Normalising the inputs over the batch makes the condition number nearly 1: a few steps suffice.
Newton takes one step. In float64.

Why: An exact line search, which sounds like the cure, is none. What helps is to change the
directions or the scale: momentum, normalised inputs, Newton.

Source: Technion tutorial 5, the zig-zag and its remedies; rates by Polyak (1964).
Section: B1.
Command: python -m experiments zig_zag
Expected: condition number 62 before, 1.2 after; steps to 1e-9 of the loss: gradient 323, exact line
search 323, momentum 52 (about 200 at the gradient's step size), BatchNorm 5, Newton 1.
Time: 6 s.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, between, equal
from experiments._runner import run_script
from jaxopt_tut.landscape import descend
from jaxopt_tut.optimizers import line_search, momentum, newton, sgd
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below, look, tidy

SAME_STEP = "momentum, same step"
METHODS = ("gradient", "exact line search", "momentum", SAME_STEP, "BatchNorm", "Newton")
TURNING = ("gradient", "momentum", SAME_STEP)
SCALES = (1.0, 7.0)
TRUTH = (1.0, -0.5)
TOLERANCE = 1e-9
"""The search has ended when the loss has shrunk by this factor."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_examples: int = 256
    num_steps: int = 500
    seed: int = 0

    def quick(self) -> "Config":
        return self


class Result(NamedTuple):
    """For each method, of one run."""

    losses: dict[str, np.ndarray]
    """Of the start as 1, one a step."""
    points: dict[str, np.ndarray]
    """Weights as they multiply the raw inputs, shape (points, 2); the minimum is `TRUTH`."""
    cosines: np.ndarray
    """Moduli, between successive gradients under exact line search until `TOLERANCE`."""
    step_error: float
    """Exact line search's first step against g.g/g.Hg, relative."""
    condition: dict[str, float]
    """Of the Hessian, before and after normalisation."""
    hessian: np.ndarray


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        inputs = jax.random.normal(jax.random.key(config.seed), (config.num_examples, 2))
        inputs = inputs * jnp.array(SCALES)
        spread = inputs.std(axis=0)
        normalised = (inputs - inputs.mean(axis=0)) / spread
        values, axes = jnp.linalg.eigh(inputs.T @ inputs / config.num_examples)
        # the start from which the gradient zig-zags most: as steep across the valley as along it
        offset = axes @ (1 / values) * values[0]
        offset = offset * jnp.sign(offset[0])
        runs, methods = {}, problems(inputs, normalised)
        for name, (features, target, build) in methods.items():
            scale = spread if name == "BatchNorm" else jnp.ones(2)
            start = (target + offset) * scale
            runs[name] = follow(features, target * scale, start, build, config.num_steps)
        runs = {name: jax.device_get(runs[name]) for name in METHODS}
        hessians = {
            name: np.asarray(x.T @ x / config.num_examples)
            for name, x in {"before": inputs, "after": normalised}.items()
        }
    exact = runs["exact line search"].points
    gradients = (exact - np.array(TRUTH)) @ hessians["before"]
    kept = gradients[: int(num_steps(_relative(runs["exact line search"].values)))]
    lengths = np.linalg.norm(kept, axis=1)
    first = gradients[0]
    theory = first @ first / (first @ hessians["before"] @ first)
    taken = np.linalg.norm(exact[1] - exact[0]) / np.linalg.norm(first)
    spread = np.asarray(spread)
    in_raw = lambda name, points: points / spread if name == "BatchNorm" else points
    return Result(
        losses={name: _relative(path.values) for name, path in runs.items()},
        points={name: in_raw(name, path.points) for name, path in runs.items()},
        cosines=np.abs(np.sum(kept[1:] * kept[:-1], axis=1)) / (lengths[1:] * lengths[:-1]),
        step_error=float(abs(taken / theory - 1)),
        condition={name: float(np.linalg.cond(h)) for name, h in hessians.items()},
        hessian=hessians["before"],
    )


def problems(inputs, normalised):
    """Return what each method sees and what it is, with its best constant step size."""
    raw, batch = (jnp.linalg.eigvalsh(x.T @ x / len(x)) for x in (inputs, normalised))
    truth = jnp.array(TRUTH)
    # Polyak: decay b = ((k - 1)/(k + 1))^2 with k the root of the condition number, and step
    # 4/(sqrt(lmin) + sqrt(lmax))^2 in heavy-ball form, 1/(1 - b) times as much in ours.
    roots = jnp.sqrt(raw)
    decay = ((roots[1] - roots[0]) / (roots[1] + roots[0])) ** 2
    heavy_ball = 4 / (roots[0] + roots[1]) ** 2
    optimizers = {
        "gradient": sgd(2 / raw.sum()),
        "exact line search": optax.chain(sgd(1.0), line_search.exact(tol=1e-12)),
        "momentum": momentum(heavy_ball / (1 - decay), decay=decay),
        SAME_STEP: momentum(2 / raw.sum(), decay=0.9),
        "BatchNorm": sgd(2 / batch.sum()),
        "Newton": newton(line_search=optax.identity()),
    }
    return {
        name: (normalised if name == "BatchNorm" else inputs, truth, optimizers[name])
        for name in METHODS
    }


def follow(features, target, start, optimizer, num_steps):
    labels = features @ target  # no noise, and no bias: the loss is a quadratic with minimum 0

    def loss(w):
        return 0.5 * jnp.mean((features @ w - labels) ** 2)

    return jax.jit(partial(descend, loss, optimizer=optimizer, num_steps=num_steps))(start)


def _relative(losses: np.ndarray) -> np.ndarray:
    return losses / losses[0]


def num_steps(losses: np.ndarray) -> float:
    """Return after how many steps the loss is small; infinity for never."""
    arrived = losses <= TOLERANCE
    return float(arrived.argmax()) if arrived.any() else np.inf


def turn(points: np.ndarray, losses: np.ndarray) -> float:
    """Return the median angle between a step and the next, in degrees, until the loss is small."""
    last = min(num_steps(losses), len(losses) - 1)
    steps = np.diff(points[: int(last) + 1], axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    cosines = np.sum(steps[1:] * steps[:-1], axis=1) / (lengths[1:] * lengths[:-1])
    return float(np.degrees(np.median(np.arccos(np.clip(cosines, -1, 1)))))


def check(result: Result) -> list[Claim]:
    steps = {name: num_steps(losses) for name, losses in result.losses.items()}
    kappa = result.condition["before"]
    needed = np.log(TOLERANCE) / (2 * np.log((kappa - 1) / (kappa + 1)))
    root = np.sqrt(kappa)
    accelerated = np.log(TOLERANCE) / (2 * np.log((root - 1) / (root + 1)))
    turns = {name: turn(result.points[name], result.losses[name]) for name in TURNING}
    return [
        at_least("condition number before normalisation", kappa, 30.0),
        # Correlation r of 256 pairs has standard error 1/16: (1 + 3/16)/(1 - 3/16) = 1.5.
        at_most("condition number after", result.condition["after"], 1.5),
        between("gradient: steps", steps["gradient"], needed - 1, needed + 1),
        # The search leaves a slope of 1e-12, and the steps before the last have lost 9 digits.
        at_most(
            "exact line search: largest |cosine| of next gradients", result.cosines.max(), 1e-6
        ),
        at_most("exact line search: first step against g.g/g.Hg", result.step_error, 1e-9),
        between(
            "exact line search: steps",
            steps["exact line search"],
            needed - 1,
            needed + 1,
            headline=True,
        ),
        # A double eigenvalue makes the decay that of t rho^t: ln(t) more of a few dozen.
        between("momentum: steps", steps["momentum"], accelerated, 2 * accelerated),
        at_most("momentum: steps, of the gradient's", steps["momentum"] / steps["gradient"], 0.5),
        at_most("BatchNorm: steps", steps["BatchNorm"], 20),
        at_least("gradient: median turn from step to step, degrees", turns["gradient"], 60),
        at_least("momentum at its best: the same", turns["momentum"], 60),
        at_most("momentum at the gradient's step size: the same", turns[SAME_STEP], 30),
        at_most(
            "momentum at the gradient's step size: steps, of the gradient's",
            steps[SAME_STEP] / steps["gradient"],
            0.9,
        ),
        equal("Newton: steps", steps["Newton"], 1, 0),
    ]


def plot(result: Result):
    hessian, truth = result.hessian.astype(np.float32), np.array(TRUTH, np.float32)
    first, second = np.linspace(0.95, 2.05, 200), np.linspace(-0.56, -0.43, 60)
    offset = np.stack(np.meshgrid(first, second), axis=-1) - truth
    values = 0.5 * np.einsum("...i,ij,...j", offset, hessian, offset)
    paths = new_figure(10.0, 9.0)
    # A panel each, for the gradient and the line search take the same path; in equal units, for
    # else the ravine looks round.
    panels = paths.subplots(len(METHODS), 1, sharex=True, sharey=True)
    for i, (ax, (name, points)) in enumerate(zip(panels, result.points.items(), strict=True)):
        ax.contour(first, second, values, np.geomspace(1e-3, 1, 7), colors="0.7", linewidths=0.8)
        ax.plot(*points[:40].T, linewidth=1.2, **look(i) | {"linestyle": "-"})
        ax.plot(*truth, "k*", markersize=10)
        ax.set_aspect("equal")
        count = num_steps(result.losses[name])
        title = f"{name}: {count:g} step{'s' if count != 1 else ''} to a billionth of the loss"
        tidy(ax, xlabel="", ylabel="$w_2$", title=title)
        ax.grid(visible=False)
    panels[-1].set_xlabel("$w_1$")
    paths.suptitle(
        "Gradient and line search zig-zag across the ravine alike (first 40 steps; star: minimum)",
        fontsize="medium",
    )
    losses = plot_lines(
        np.arange(301),
        {name: np.maximum(losses[:301], 1e-12) for name, losses in result.losses.items()},
        xlabel="step",
        ylabel="loss, start = 1 (cut at 1e-12)",
        yscale="log",
        title="The line search is as slow as the gradient, the others are not",
    )
    legend_below(losses, columns=3)
    return {"paths": paths, "losses": losses.figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
