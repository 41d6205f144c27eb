"""Over 50 layers GELU, SiLU and Mish scatter the variance by e or more in spite of the gain.

Question: How large must weights be behind an activation that is no ReLU, and is there such a size
for each?

Claim: weights of variance gain^2 / d_in keep the second moment of the pre-activations at 1 behind
any activation: one layer on for all ten here, in the mean over networks. Over 50 layers it depends
on the slope s of the variance map at its fixed point 1. A layer of n units scatters by a relative
(E[phi^4] / E[phi^2]^2 - 1) / n and the next ones multiply that by s, so the variance of
log q at layer L should be the sum of s^(2k) times that, k < L. Where s <= 1 networks stay
near 1; where s > 1 (GELU, SiLU, Mish) they leave it for zero or infinity: there the gain fails.
Without the gain, q falls or rises by decades, as the variance map predicts.

Why: A gain alone decides over a few layers. Over many, none is enough for an activation whose
variance map is too steep at its fixed point: chance is amplified layer by layer.

Source: UvA tutorial 4, initialization, which stops at ReLU; Poole et al. (2016) for the map.
Section: A4.
Command: python -m experiments activation_gains
Expected: scatter of log q at layer 50: ReLU .7, tanh .09; GELU, SiLU, Mish beyond 1.
Time: 14 s.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most, between
from experiments._runner import run_script
from jaxopt_tut.initializers import equal_variance, gain
from jaxopt_tut.plotting import new_figure, plot_predicted, plot_profile

ACTIVATIONS = {
    "ReLU": jax.nn.relu,
    "leaky ReLU": partial(jax.nn.leaky_relu, negative_slope=0.2),
    "ELU": jax.nn.elu,
    "SELU": jax.nn.selu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "GELU": jax.nn.gelu,
    "SiLU": jax.nn.silu,
    "Mish": jax.nn.mish,
}
"""Those with a stable fixed point first: there are seven colours, and each panel begins anew."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    num_seeds: int = 20
    depth: int = 50
    width: int = 256

    def quick(self) -> "Config":
        few = ("ReLU", "SELU", "tanh", "GELU")
        return dataclasses.replace(self, activations=few, num_seeds=10, width=128)


class Result(NamedTuple):
    """For each activation the q of every layer (see `measure`), shape (seeds, layers)."""

    with_gain: dict[str, np.ndarray]
    without: dict[str, np.ndarray]
    """With weight variance 1 / d_in, the first `SHORT` layers."""
    predicted_without: dict[str, np.ndarray]
    slope: dict[str, float]
    """Of the variance map at its fixed point 1, with the gain."""
    predicted_scatter: dict[str, np.ndarray]
    """Standard deviation of log q at each layer, with the gain."""


SHORT = 20
"""Layers without gain: beyond, GELU's q falls out of the range of the variance map."""


@partial(jax.jit, static_argnames=("depth", "width"))
def draw(key, depth, width):
    """Draw a white input and kernels of variance 1 / width, which all activations share."""
    input_key, kernel_key = jax.random.split(key)
    keys = jax.random.split(kernel_key, depth - 1)
    kernels = jax.vmap(lambda key: equal_variance()(key, (width, width)))(keys)
    return jax.random.normal(input_key, (width,)), kernels


@partial(jax.jit, static_argnames="activation")
def measure(first, kernels, weight_variances, activation):
    """Return q_l = Var[w] |h_(l-1)|^2: the variance of the pre-activations, given the layer below.

    The networks differ in the scale of their weights, one of `weight_variances` each.
    """

    def network(weight_variance):
        def layer(z, kernel):
            hidden = activation(z)
            q = weight_variance * jnp.mean(jnp.square(hidden))
            return jnp.sqrt(weight_variance) * hidden @ kernel, q

        return jax.lax.scan(layer, first, kernels)[1]

    return jnp.concatenate([jnp.ones((2, 1)), jax.vmap(network)(weight_variances)], axis=1)


def predict(activation, weight_variance: float, num_layers: int) -> tuple[np.ndarray, float, float]:
    """Return q without gain, the map's slope with gain, and E[phi^4] / E[phi^2]^2 - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)

    def moment(q, power):
        values = np.asarray(activation(jnp.asarray(np.sqrt(q) * nodes, jnp.float32)), np.float64)
        return np.average(values**power, weights=weights)

    without = [1.0]
    while len(without) < num_layers:
        without.append(moment(without[-1], 2))
    width = 0.01
    slope = weight_variance * (moment(1 + width, 2) - moment(1 - width, 2)) / (2 * width)
    return np.array(without), slope, moment(1.0, 4) / moment(1.0, 2) ** 2 - 1


def run(config: Config) -> Result:
    result = Result({}, {}, {}, {}, {})
    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    networks = [draw(key, config.depth, config.width) for key in keys]
    short = min(SHORT, config.depth)
    for name in config.activations:
        activation = ACTIVATIONS[name]
        weight_variance = float(gain(activation) ** 2)
        variances = jnp.array([weight_variance, 1.0])
        runs = np.stack([measure(*network, variances, activation) for network in networks])
        without, slope, spread = predict(activation, weight_variance, short)
        noise = slope ** (2 * np.arange(config.depth - 1)) * spread / config.width
        result.with_gain[name], result.without[name] = runs[:, 0], runs[:, 1, :short]
        result.predicted_without[name] = without
        result.slope[name] = slope
        result.predicted_scatter[name] = np.sqrt(np.concatenate([[0.0], np.cumsum(noise)]))
    return result


def check(result: Result) -> list[Claim]:
    num_seeds = len(result.with_gain["ReLU"])
    second = {name: runs[:, 1] for name, runs in result.with_gain.items()}
    off = [abs(q.mean() - 1) / (q.std(ddof=1) / np.sqrt(num_seeds)) for q in second.values()]
    scatter = {n: np.log(runs[:, -1]).std(ddof=1) for n, runs in result.with_gain.items()}
    ratio = {n: scatter[n] / result.predicted_scatter[n][-1] for n in scatter}
    stable = [name for name, slope in result.slope.items() if slope <= 1 + 1e-3]  # ReLU's is 1
    unstable = [name for name in result.slope if name not in stable]
    medians = []
    for name in stable:
        median, sigma = np.median(np.log(result.with_gain[name][:, -1])), scatter[name]
        # A median's standard error is 1.25 that of a mean; E[q] = 1 puts it at -sigma^2 / 2.
        medians.append(abs(median) / (4 * 1.25 * sigma / np.sqrt(num_seeds) + sigma**2 / 2))
    errors = []
    for name, runs in result.without.items():
        logs = np.log(runs[:, 1:])  # the first layer is the input
        # Jensen: the mean logarithm lies half its variance below the logarithm of the mean.
        allowed = 4 * logs.std(axis=0, ddof=1) / np.sqrt(num_seeds) + logs.var(axis=0, ddof=1) / 2
        errors.append(
            np.abs(logs.mean(axis=0) - np.log(result.predicted_without[name][1:])) / allowed
        )
    # The standard error of a log standard deviation is 1 / sqrt(2 (seeds - 1)).
    factor = np.exp(4 / np.sqrt(2 * (num_seeds - 1)))
    names = ", ".join(unstable)
    return [
        at_most("one layer on: distance of q from 1 in standard errors, worst", max(off), 4.0),
        at_most(
            "slope <= 1: |median log q| at the end over that allowed, worst", max(medians), 1.0
        ),
        between(
            "slope <= 1: scatter of log q over the predicted, smallest",
            min(ratio[name] for name in stable),
            1 / factor,
            factor,
        ),
        between(
            "slope <= 1: scatter of log q over the predicted, largest",
            max(ratio[name] for name in stable),
            1 / factor,
            factor,
        ),
        at_least(
            f"slope > 1 ({names}): scatter of log q at the last layer, smallest",
            min(scatter[name] for name in unstable),
            1.0,
            headline=True,
        ),
        at_most(
            "without gain, 20 layers: error of the theory over the error allowed",
            max(float(error.max()) for error in errors),
            1.0,
        ),
    ]


def plot(result: Result):
    figure = new_figure(11, 9)
    num_seeds = len(result.without["ReLU"])
    (top_left, top_right), (left, right) = figure.subplots(2, 2)
    for ax, title, names in (
        (
            top_left,
            "Slope of the variance map ≤ 1: q stays within 2",
            lambda slope: slope <= 1 + 1e-3,
        ),
        (top_right, "Slope > 1: q leaves 1 by decades", lambda slope: slope > 1 + 1e-3),
    ):
        runs = {n: np.log(result.with_gain[n]) for n, slope in result.slope.items() if names(slope)}
        plot_profile(
            {f"{name}": np.exp(logs) for name, logs in runs.items()},
            ylabel="q, variance of the pre-activations",
            title=title,
            ax=ax,
        )
    plot_predicted(
        result.predicted_without,
        {name: np.exp(np.log(runs).mean(axis=0)) for name, runs in result.without.items()},
        xlabel="predicted q (mean field)",
        ylabel="measured q (geometric mean)",
        title=f"Without gain theory tells q over {SHORT} layers ({num_seeds} seeds)",
        ax=left,
    )
    plot_predicted(
        {name: scatter[1:] for name, scatter in result.predicted_scatter.items()},
        {n: np.log(runs).std(axis=0, ddof=1)[1:] for n, runs in result.with_gain.items()},
        xlabel="predicted scatter of log q",
        ylabel="measured scatter of log q",
        title=f"With gain it tells the scatter, until that is large ({num_seeds} seeds)",
        ax=right,
    )
    return {"gains": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
