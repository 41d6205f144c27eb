"""From bad starts Adam gets ahead of SGD and momentum by more than four standard errors.

Question: Which optimizer can still learn from weights that start far too small or all equal?

Claim: five epochs from a standard deviation of .01 leave SGD (learning rate .1) and momentum (.1,
decay .9) at chance or little above and bring Adam (.001) most of the way; from a constant of .005,
where all units of a layer are copies, Adam still gets past chance and they do not.

Why: Adam divides by the size of the gradient, so that a vanishing one still moves the weights. That
it trains may hide a start that is wrong.

Source: UvA tutorial 4, its remark on Adam's robustness.
Section: A7.
Command: python -m experiments bad_initialization [--data full]
Expected: test accuracy of SGD, momentum, Adam in per cent: bundled images 10, 10, 74 (std .01) and
10, 10, 20 (constant); full data 20, 18, 86 and 10, 10, 27.
Time: 15 s; with --whole 35 s, with --data full as well 2 minutes.
"""

import dataclasses
import sys
from typing import Literal, NamedTuple

import jax
import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from experiments.optimization.optimizer_comparison import OPTIMIZERS, accuracy, loss_fn
from jaxopt_tut import datasets
from jaxopt_tut.datasets import split_train_validation
from jaxopt_tut.initializers import constant, normal
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import BAND_ALPHA, legend_below, look, tidy
from jaxopt_tut.training import evaluator, fit

INITIALIZERS = {"std .01": normal(0.01), "constant .005": constant(0.005)}


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    initializers: tuple[str, ...] = tuple(INITIALIZERS)
    num_seeds: int = 1
    num_epochs: int = 5
    batch_size: int = 256

    def quick(self) -> "Config":
        return dataclasses.replace(self, initializers=("std .01",))

    def whole(self) -> "Config":
        return dataclasses.replace(self, num_seeds=3)


class Result(NamedTuple):
    """For each initializer and optimizer, arrays of shape (seeds,) or (seeds, epochs)."""

    num_test: int
    test: dict[str, dict[str, np.ndarray]]
    """Accuracy after the last epoch."""
    curves: dict[str, dict[str, np.ndarray]]
    """Test accuracy after each epoch."""


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    evaluate = evaluator(accuracy, dataset)
    split_key, *keys = jax.random.split(jax.random.key(0), 1 + config.num_seeds)
    images = split_train_validation(split_key, dataset.train, len(dataset.train.labels) // 6)[0]
    test = {name: {} for name in config.initializers}
    curves = {name: {} for name in config.initializers}
    for name in config.initializers:
        for optimizer_name, optimizer in OPTIMIZERS.items():
            runs = []
            for key in keys:
                init_key, fit_key = jax.random.split(key)
                params = mlp.init(init_key, kernel_init=INITIALIZERS[name])
                fitted = fit(
                    loss_fn,
                    params,
                    optimizer,
                    dataset._replace(train=images),
                    batch_size=config.batch_size,
                    num_epochs=config.num_epochs,
                    key=fit_key,
                    evaluate=evaluate,  # nothing is chosen by it: the last parameters count
                )
                runs.append(fitted.history.validation["accuracy"])
            curves[name][optimizer_name] = np.stack(runs)
            test[name][optimizer_name] = np.stack(runs)[:, -1]
    return Result(len(dataset.test.labels), test, curves)


def check(result: Result) -> list[Claim]:
    claims, smallest = [], []
    for name, test in result.test.items():
        for slow in ("SGD", "momentum"):
            # A third of the classes told apart would be .3: chance is .1.
            text = f"{name}, {slow}: mean test accuracy"
            claims.append(at_most(text, test[slow].mean(), 0.3))
        # Standard error of the difference of two accuracies on independent images, an upper bound
        # for two on the same.
        spread = sum(test[n] * (1 - test[n]) for n in ("Adam", "SGD")) / result.num_test
        ahead = test["Adam"] - np.maximum(test["SGD"], test["momentum"])
        text = f"{name}: Adam ahead of the better of both, in standard errors (worst seed)"
        smallest.append(np.min(ahead / np.sqrt(spread)))
        claims.append(at_least(text, smallest[-1], 4.0))
    text = "Adam ahead of the better of both, in standard errors, least of all bad starts"
    claims.append(at_least(text, min(smallest), 4.0, headline=True))
    adam = result.test["std .01"]["Adam"].mean()
    claims.append(at_least("std .01, Adam: mean test accuracy", adam, 0.6))
    return claims


def plot(result: Result):
    figure = new_figure(5.5 * len(result.curves), 4.4)
    panels = figure.subplots(1, len(result.curves), squeeze=False)[0]
    num_seeds = len(next(iter(result.test.values()))["Adam"])
    said = f"(mean and range of {num_seeds} seeds)" if num_seeds > 1 else "(one seed)"
    for ax, (name, curves) in zip(panels, result.curves.items(), strict=True):
        for i, (optimizer, runs) in enumerate(curves.items()):
            epochs = np.arange(1, 1 + runs.shape[1])
            style = look(i) | {"markersize": 10 - 3 * i}  # those at chance lie on each other
            ax.plot(epochs, runs.mean(axis=0), label=optimizer, **style)
            ends = runs.min(axis=0), runs.max(axis=0)
            ax.fill_between(epochs, *ends, color=style["color"], alpha=BAND_ALPHA, linewidth=0)
        last = {optimizer: runs[:, -1].mean() for optimizer, runs in curves.items()}
        tidy(
            ax,
            xlabel="epoch",
            ylabel="test accuracy",
            title=f"From {name} Adam reaches {last['Adam']:.0%}, "
            f"the others {max(last['SGD'], last['momentum']):.0%} at most\n{said}",
        )
        ax.set_xticks(epochs)
        legend_below(ax)
        ax.axhline(0.1, color="0.4", linestyle=":", linewidth=1)
        ax.annotate("chance", (1, 0.1), xytext=(0, -12), textcoords="offset points")
        ax.set_ylim(0, 1)
    return {"recovery": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
