"""Ten eigenvectors of a trained network's Hessian hold far more of its gradient than of its way.

Question: Do networks learn within the few directions of large curvature?

Claim: soon after the start nearly all of the squared length of the gradient lies in the span of the
ten eigenvectors with the largest eigenvalues, as many as there are classes, out of thousands of
dimensions. Ten random directions hold k / size of it, and the ten of another network, trained as
long from another start, a few per cent. But of the way from one point of the training to a later
one the same ten hold next to nothing: along them the steps cancel, and what adds up lies outside.
The gradient lies in a tiny subspace; descent does not happen there.

Why: The gradient comes to lie among them, and one is tempted to optimise there alone. But its steps
there cancel, and the way that training travels lies outside, in the flat directions.

Source: beyond the tutorials; UvA tutorial 4, pathological curvatures; Gur-Ari, Roberts and Dyer
(2018), Gradient descent happens in a tiny subspace, https://arxiv.org/abs/1812.04754; Song et al.
(2024), Does SGD really happen in tiny subspaces?, https://arxiv.org/abs/2405.16002.
Section: beyond A8.
Command: python -m experiments tiny_subspace [--data full]
Expected: share of the gradient .76 at the start, .93 after 3 epochs, .96 after 30 (random .001,
another network's .03); share of the way .04 up to epoch 3, .005 from there to epoch 30
Time: 12 s, or 6 s behind minima_of_optimizers in one process; with --whole minutes.
"""

import dataclasses
import sys
from typing import Literal, NamedTuple

import jax
import numpy as np
from scipy import stats

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from experiments.curvature._networks import Setting, cross_entropy, images_of, start, trained
from jaxopt_tut.curvature import hessian, top_eigenpairs
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS, MARKERS, tidy
from jaxopt_tut.vectors import ravel

K = 10
"""Eigenvectors: as many as classes."""
gradient = jax.jit(jax.grad(cross_entropy))


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained, from how many starts; `minima_of_optimizers` trains the same."""

    hidden: tuple[int, ...] = (64, 64, 32)
    block: int = 4
    num_images: int = 2000
    epochs: tuple[int, ...] = (0, 3, 30)
    """After how many it is looked at."""
    num_seeds: int = 4
    optimizer: Literal["SGD", "momentum", "Adam"] = "SGD"
    data: Literal["mini", "full"] = "mini"

    def quick(self) -> "Config":
        return dataclasses.replace(self, hidden=(8,), num_images=256, epochs=(0, 1, 2), num_seeds=2)

    def whole(self) -> "Config":
        return dataclasses.replace(self, hidden=(512, 256, 256, 128), block=1)


class Result(NamedTuple):
    """Shares of squared lengths that lie in the span of ten eigenvectors, [seeds, epochs]."""

    own: np.ndarray
    """Of the gradient."""
    foreign: np.ndarray
    """Of the gradient, with the eigenvectors of the network of the next seed."""
    way: np.ndarray
    """Of the way from each point to the next, [seeds, epochs - 1]; with the eigenvectors of its
    first or its last point, whichever hold more."""
    epochs: tuple[int, ...]
    size: int


def share(vectors, vector) -> float:
    """Return what orthonormal rows span of the squared length of a vector."""
    return float(np.sum((vectors @ vector) ** 2) / np.sum(vector**2))


def run(config: Config) -> Result:
    data = images_of(_setting(config, 0))
    seeds, times = range(config.num_seeds), range(len(config.epochs))
    # [seed][time]
    points = [[_network(config, seed, epochs) for epochs in config.epochs] for seed in seeds]
    spans = [[_top(point, data, config) for point in row] for row in points]
    slopes = [[_flat(gradient(point, data)) for point in row] for row in points]
    places = [[_flat(point) for point in row] for row in points]
    own = [[share(spans[s][t], slopes[s][t]) for t in times] for s in seeds]
    foreign = [[share(spans[(s + 1) % len(seeds)][t], slopes[s][t]) for t in times] for s in seeds]
    way = [
        [
            max(share(spans[s][end], places[s][t + 1] - places[s][t]) for end in (t, t + 1))
            for t in times[:-1]
        ]
        for s in seeds
    ]
    return Result(np.array(own), np.array(foreign), np.array(way), config.epochs, places[0][0].size)


def _setting(config: Config, epochs: int) -> Setting:
    return Setting(config.data, config.block, config.hidden, config.num_images, epochs)


def _network(config: Config, seed: int, epochs: int):
    """Return a point of the training; fewer epochs are the beginning of more, batch for batch."""
    if epochs == 0:
        # of the setting that others ask for, too
        return start(_setting(config, max(config.epochs)), seed)
    return trained(_setting(config, epochs), config.optimizer, seed)[0]


def _top(point, data, config: Config) -> np.ndarray:
    # chunks and a basis as in minima_of_optimizers, whose programs are found again; with a
    # tolerance of 1e-4 no share changes by more than .01
    op = hessian(cross_entropy, point, data, batch_size=min(500, config.num_images))
    pairs = top_eigenpairs(op, K, jax.random.key(0), tol=1e-2, basis=2 * K)
    return np.asarray(pairs.vectors, np.float64)


def _flat(tree) -> np.ndarray:
    return np.asarray(ravel(tree)[0], np.float64)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return Student's 95 % interval of a mean over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def check(result: Result) -> list[Claim]:
    first, *later = result.epochs
    random = K / result.size
    claims = [
        # two orders of magnitude: no accident, but not nearly all of it either
        at_least(
            f"gradient after {first} epochs: lower end of the 95 % interval, over k / size",
            interval(result.own[:, 0])[0] / random,
            100,
        )
    ]
    held = [interval(result.own[:, t])[0] for t in range(1, len(result.epochs))]
    travelled = [interval(result.way[:, t - 1])[1] for t in range(1, len(result.epochs))]
    claims.append(
        # three quarters over a tenth, as below
        at_least(
            "gradient's share, lower end, over the way's, upper end: least of the epochs",
            np.min(np.divide(held, travelled)),
            7.5,
            original="gradient descent happens in a tiny subspace",
            headline=True,
        )
    )
    for t, epochs in enumerate(later, 1):
        claims += [
            # three quarters: more than three times all that is left outside
            at_least(
                f"gradient after {epochs} epochs: lower end of the 95 % interval",
                interval(result.own[:, t])[0],
                0.75,
            ),
            # a tenth: what all networks share, such as the mean image, is less than that
            at_most(
                f"another network's eigenvectors after {epochs} epochs: upper end",
                interval(result.foreign[:, t])[1],
                0.1,
            ),
            # What happened in the subspace would have most of its way in it; a tenth is far off.
            at_most(
                f"way from epoch {result.epochs[t - 1]} to {epochs}: upper end",
                interval(result.way[:, t - 1])[1],
                0.1,
                original="gradient descent happens in a tiny subspace",
            ),
        ]
    return claims


def plot(result: Result):
    figure = new_figure(7.2, 4.4)
    ax = figure.add_subplot()
    places = np.arange(len(result.epochs))
    rows = (
        ("gradient", places, result.own),
        ("gradient, another network's eigenvectors", places, result.foreign),
        ("way travelled in between", places[1:] - 0.5, result.way),
    )
    for i, (name, at, shares) in enumerate(rows):
        color, marker = COLORS[i], MARKERS[i]
        ax.plot(at, shares.mean(axis=0), "-", color=color, linewidth=1)
        scatter = np.linspace(-0.06, 0.06, len(shares))
        for shift, row in zip(scatter, shares, strict=True):
            label = name if shift == scatter[0] else None
            ax.plot(at + shift, row, marker, color=color, label=label, alpha=0.7, markersize=5)
    ax.axhline(K / result.size, color="0.4", linestyle="--", label="random directions")
    ax.set_yscale("log")
    ax.set_ylim(K / result.size / 2, 1.5)
    ax.set_xticks(places, [f"{epochs}" for epochs in result.epochs])
    ax.legend(frameon=False, fontsize="small", loc="center right", bbox_to_anchor=(1.0, 0.72))
    title = f"{K} of {result.size} dimensions hold the gradient, but not the way"
    tidy(ax, xlabel="epochs", ylabel="share of the squared length", title=title)
    return {"shares": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
