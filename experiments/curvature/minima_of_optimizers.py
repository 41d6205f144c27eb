"""From one start momentum and Adam end in sharper minima than SGD.

Question: Does it depend on the optimizer how sharp the minimum is that it finds?

Claim: trained with mini-batches from the same start, at the tutorial's rates, SGD ends where the
largest eigenvalue of the Hessian is below 2 over its learning rate, which is 20. Momentum, whose
limit is 19 times that, ends in sharper places, beyond what SGD could stay in; Adam, which measures
lengths in units of its own, too. The sentence that an optimizer finds flat or sharp minima is one
on its limit: what it can stay in.

Why: What the optimizer can stay in decides, and that is set by its rate and its momentum. "SGD
finds flat minima" is a sentence about a limit and holds only with its rate.

Source: UvA tutorial 4, closing section on which optimizer to take; Technion tutorial 5, step size
and curvature; Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge
of stability.
Section: A10.
Command: python -m experiments minima_of_optimizers [--data full]
Expected: largest eigenvalue at the start 10 to 36, where SGD ends 16 to 18 (limit 20), momentum 29
to 35 (limit 380), Adam 41 to 51
Time: 7 s; with --whole, the tutorial's network of 633 226 parameters, minutes.
"""

import dataclasses
import sys
from typing import Literal, NamedTuple

import jax
import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from experiments.curvature._networks import (
    OPTIMIZERS,
    RATES,
    Setting,
    cross_entropy,
    images_of,
    start,
    trained,
)
from jaxopt_tut.curvature import hessian, stability_limit, top_eigenpairs
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS, MARKERS, tidy

LIMITS = {
    "SGD": float(stability_limit(RATES["SGD"])),
    "momentum": float(stability_limit(RATES["momentum"], momentum=0.9)),
}
"""That of Adam is one of another Hessian."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained, from how many starts."""

    hidden: tuple[int, ...] = (64, 64, 32)
    block: int = 4
    num_images: int = 2000
    num_epochs: int = 30
    num_seeds: int = 2
    data: Literal["mini", "full"] = "mini"

    def quick(self) -> "Config":
        return dataclasses.replace(self, hidden=(8,), num_images=256, num_epochs=2, num_seeds=2)

    def whole(self) -> "Config":
        return dataclasses.replace(self, hidden=(512, 256, 256, 128), block=1, num_seeds=3)


class Result(NamedTuple):
    """Largest eigenvalues of the Hessian of the loss of all images trained on."""

    start: np.ndarray
    end: dict[str, np.ndarray]
    """By optimizer, a number a seed."""
    loss: dict[str, np.ndarray]
    """Mean over the last sixteen batches."""


def run(config: Config) -> Result:
    setting = Setting(
        config.data, config.block, config.hidden, config.num_images, config.num_epochs
    )
    seeds, data = range(config.num_seeds), images_of(setting)

    def largest(params):
        op = hessian(cross_entropy, params, data, batch_size=min(500, config.num_images))
        # three digits: seeds differ in the first
        return float(top_eigenpairs(op, 1, jax.random.key(0), tol=1e-3).values[0])

    end, loss = {}, {}
    for name in OPTIMIZERS:
        runs = [trained(setting, name, seed) for seed in seeds]
        end[name] = np.array([largest(params) for params, _ in runs])
        loss[name] = np.array([losses[-16:].mean() for _, losses in runs])
    return Result(np.array([largest(start(setting, seed)) for seed in seeds]), end, loss)


def check(result: Result) -> list[Claim]:
    end = result.end
    # Batches add noise that pushes out of what is nearly too sharp, so the limit is not passed.
    claims = [
        at_most(f"{name}: largest eigenvalue at the end over its limit", max(end[name]) / limit, 1)
        for name, limit in LIMITS.items()
    ]
    ratios = [end[name] / end["SGD"] for name in ("momentum", "Adam")]
    text = "eigenvalue of momentum or Adam over that of SGD from the same start, least"
    claims.append(at_least(text, np.min(ratios), 1.0, headline=True))
    for name in ("momentum", "Adam"):
        text = f"{name}: least ratio of its eigenvalue to that of SGD from the same start"
        claims.append(at_least(text, np.min(end[name] / end["SGD"]), 1.0))
        text = f"{name}: its eigenvalue over the limit of SGD, least of seeds"
        claims.append(at_least(text, min(end[name]) / LIMITS["SGD"], 1.0))
    return claims


def plot(result: Result):
    figure = new_figure(6.4, 4.2)
    ax = figure.add_subplot()
    columns = {"start": result.start, **result.end}
    for place, (name, values) in enumerate(columns.items()):
        ax.plot(
            np.full(len(values), place), values, MARKERS[place], color=COLORS[place], label=name
        )
        if name in LIMITS:
            ends = [place - 0.3, place + 0.3]
            ax.plot(ends, [LIMITS[name]] * 2, "--", color=COLORS[place])
            ax.annotate("limit", (place + 0.3, LIMITS[name]), fontsize="small", va="center")
    ax.set_xticks(range(len(columns)), list(columns))
    ax.set_yscale("log")
    title = f"From {len(result.start)} starts: momentum and Adam end sharper than SGD"
    tidy(ax, xlabel="", ylabel="largest eigenvalue of the Hessian", title=title)
    return {"sharpness": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
