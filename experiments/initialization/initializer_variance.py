"""Second moments of seven starts are those of theory in all layers, within 4 standard errors.

Question: What variance do the pre-activations have in each layer, and can it be told beforehand?

Claim: on one batch of 1024 normalised images, in the network 784-512-256-256-128-10, with the
identity as activation, a standard deviation of .01 makes the pre-activations vanish, .1 makes
them explode, N(0, 1/d_in) keeps their variance at 1 and Xavier multiplies it by
2 d_in / (d_in + d_out) a layer; ReLU halves the second moment, which Kaiming's 2/d_in repairs and
Xavier and 1/d_in do not.
Predictions are for the second moment, exact in expectation over the weights:
q_l = d_in Var[w] q_(l-1), half of it behind a ReLU, q_0 the mean square of the batch's pixels.

Why: A factor a layer that is not one is raised to the number of layers: it is the difference
between a signal and none. The theory gives that factor without running the network.

Source: UvA tutorial 4, initialization.
Section: A5.
Command: python -m experiments initializer_variance [--data full]
Expected: variances of layers 1 to 5: std .01: .079 .0041 1e-4 3e-6 4e-8; std .1: 7.9 41 107 272
353; 1/d_in: 1.0 in all; Xavier and tanh 1.2 .56 .29 .25 .34; Kaiming and ReLU 1.0 in all (the last
layer has 10 units and scatters).
Time: 28 s.
"""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut import initializers as init
from jaxopt_tut.datasets import normalize
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure, plot_distributions, plot_profile

SIZES = mlp.FASHION_MNIST_SIZES
TITLES = [f"({fan_in} -> {fan_out})" for fan_in, fan_out in pairwise(SIZES)]


def identity(x):
    return x


class Case(NamedTuple):
    """An initializer with an activation, and the variance of its weights."""

    activation: Callable
    kernel_init: Callable
    variance: Callable[[int, int], float] | None = None
    """Of d_in and d_out; None where the second moments have no simple closed form."""
    first_kernel_init: Callable | None = None


CASES = {
    "std .01": Case(identity, init.normal(0.01), lambda _i, _o: 1e-4),
    "std .1": Case(identity, init.normal(0.1), lambda _i, _o: 1e-2),
    "1 over d_in": Case(identity, init.equal_variance(), lambda i, _: 1 / i),
    "Xavier": Case(identity, init.xavier_uniform(), lambda i, o: 2 / (i + o)),
    "Xavier, tanh": Case(jnp.tanh, init.xavier_uniform()),
    "Kaiming, ReLU": Case(
        jax.nn.relu,
        init.kaiming_normal(),
        lambda i, _: (1 if i == SIZES[0] else 2) / i,  # the images went through no ReLU
        init.equal_variance(),
    ),
    "Xavier, ReLU": Case(jax.nn.relu, init.xavier_uniform(), lambda i, o: 2 / (i + o)),
    "1 over d_in, ReLU": Case(jax.nn.relu, init.equal_variance(), lambda i, _: 1 / i),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    drawn: tuple[str, ...] = (
        "std .01",
        "std .1",
        "1 over d_in",
        "Xavier, tanh",
        "Kaiming, ReLU",
    )
    """What gets a figure of its distributions: the tutorial's own."""
    num_seeds: int | None = None
    """By default 20 on the full images, 10 on the bundled ones."""
    batch_size: int = 1024

    def quick(self) -> "Config":
        return dataclasses.replace(self, drawn=("Kaiming, ReLU",), num_seeds=12, batch_size=256)


class Statistics(NamedTuple):
    """One case: numbers of shape (seeds, layers), and everything of the first seed."""

    variances: np.ndarray
    """Of the pre-activations, over batch and units together."""
    second_moments: np.ndarray
    gradient_variances: np.ndarray
    """Of the weight matrices' gradients."""
    predicted: np.ndarray | None
    """Second moments, shape (layers,)."""
    distributions: dict[str, list[np.ndarray]]
    """One array a layer of the weights, the pre-activations and the gradients."""


class Result(NamedTuple):
    """Every case, and which of them to draw."""

    cases: dict[str, Statistics]
    drawn: tuple[str, ...]


@partial(jax.jit, static_argnames="activation")
def measure(params, images, labels, activation):
    """Return the numbers of every layer and the arrays that they come from."""

    def loss_fn(params):
        logits, outputs = mlp.apply(params, images, activation, return_pre_activations=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), outputs

    gradients, outputs = jax.grad(loss_fn, has_aux=True)(params)
    gradients = [layer["kernel"] for layer in gradients]
    numbers = (
        jnp.array([jnp.var(values) for values in outputs]),
        jnp.array([jnp.mean(jnp.square(values)) for values in outputs]),
        jnp.array([jnp.var(values) for values in gradients]),
    )
    return numbers, (list(outputs), gradients)


def predict(case: Case, images) -> np.ndarray | None:
    """Multiply out the second moments, q_l = d_in Var[w] q_(l-1), halved behind a ReLU."""
    if case.variance is None:
        return None
    kept = 0.5 if case.activation is jax.nn.relu else 1.0
    factors = [i * case.variance(i, o) for i, o in pairwise(SIZES)]
    kept_factors = [factors[0], *(kept * factor for factor in factors[1:])]
    return float(np.mean(np.square(images))) * np.cumprod(kept_factors)


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    images = normalize(dataset.train.images[: config.batch_size], dataset.mean, dataset.std)
    labels = dataset.train.labels[: config.batch_size]
    num_seeds = config.num_seeds or (20 if config.data == "full" else 10)
    keys = jax.random.split(jax.random.key(0), (len(CASES), num_seeds))
    cases = {
        name: run_case(case, case_keys, images, labels)
        for (name, case), case_keys in zip(CASES.items(), keys, strict=True)
    }
    return Result(cases, config.drawn)


def run_case(case: Case, keys, images, labels) -> Statistics:
    """Measure one initializer with every key."""
    rows, first = [], None
    for key in keys:
        # Not jitted: the draws of one shape share a program between all initializers.
        params = mlp.init(
            key, SIZES, kernel_init=case.kernel_init, first_kernel_init=case.first_kernel_init
        )
        numbers, arrays = measure(params, images, labels, case.activation)
        rows.append(numbers)
        first = first or ([layer["kernel"] for layer in params], *arrays)
    quantities = ("weight", "pre-activation", "gradient")
    variances, second_moments, gradient_variances = map(np.stack, zip(*rows, strict=True))
    return Statistics(
        variances=variances,
        second_moments=second_moments,
        gradient_variances=gradient_variances,
        predicted=predict(case, images),
        distributions=dict(zip(quantities, jax.device_get(first), strict=True)),
    )


def check(result: Result) -> list[Claim]:
    mean = {name: case.variances.mean(axis=0) for name, case in result.cases.items()}
    tanh = result.cases["Xavier, tanh"].variances[:, -1]
    tanh_error = tanh.std(ddof=1) * np.sqrt(1 / len(tanh) + 1 / 5)  # the .34 is of 5 seeds
    claims = [
        at_most("std .01: variance of the last layer", mean["std .01"][-1], 1e-6),
        at_least("std .1: variance of the last layer", mean["std .1"][-1], 100.0),
        equal("Xavier, tanh: variance of the last layer", tanh.mean(), 0.34, 4 * tanh_error),
    ]
    distances = []
    for name, case in result.cases.items():
        if case.predicted is not None:
            moments = case.second_moments
            error = moments.std(axis=0, ddof=1) / np.sqrt(len(moments))
            distance = np.abs(moments.mean(axis=0) - case.predicted) / error
            text = f"{name}: second moments from theory, in standard errors (worst layer)"
            distances.append(distance.max())
            claims.append(at_most(text, distances[-1], 4.0))
    text = f"second moments from theory, in standard errors, worst of {len(distances)} starts"
    return [*claims, at_most(text, max(distances), 4.0, headline=True)]


def plot(result: Result):
    plain = {
        name: case for name, case in result.cases.items() if CASES[name].activation is identity
    }
    others = {name: case for name, case in result.cases.items() if name not in plain}
    figure = new_figure(11, 8)
    panels = figure.subplots(2, 2)
    titles = (
        "Identity: 1/d_in holds the signal, .01 loses it, .1 explodes",
        "Behind ReLU Kaiming holds the signal, others halve it",
    )
    for column, (title, cases) in enumerate(zip(titles, (plain, others), strict=True)):
        # What theory is about; the variance of a layer of ten units is a fifth less.
        plot_profile(
            {name: case.second_moments for name, case in cases.items()},
            predicted={
                n: case.predicted for n, case in cases.items() if case.predicted is not None
            },
            ylabel="second moment of the pre-activations",
            title=title,
            ax=panels[0, column],
        )
        plot_profile(
            {name: case.gradient_variances for name, case in cases.items()},
            ylabel="variance of the weights' gradients",
            title="Gradients of the weights differ by decades with the start",
            ax=panels[1, column],
        )
    figures = {"profiles": figure}
    for name in result.drawn:
        file = name.replace(", ", "_").replace(" ", "_").replace(".", "0.").lower()
        rows = result.cases[name].distributions
        figures[file] = plot_distributions(rows, titles=TITLES, title=f"{name} (one seed)")
    return figures


if __name__ == "__main__":
    run_script(sys.modules[__name__])
