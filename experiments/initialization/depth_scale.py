"""The correlation of two inputs decays over the layers as mean-field theory says, within 5 %.

Question: Over how many layers can a random network tell two inputs apart?

Claim: the correlation of two inputs goes to a fixed point c* at the rate exp(-l / xi), with the
depth scale xi = -1 / log C'(c*) that `mean_field` computes, C being the correlation map: in the
ordered phase (c* = 1, all inputs become one) and in the chaotic one (c* < 1, they become strangers
however close they were), and for tanh, ReLU and GELU alike. Measured in random networks as the mean
over pairs and networks; the decay agrees within 5 %. The scale grows without bound towards the edge
of chaos: that is why only networks close to it can be deep.
Ordered: pairs start at c = .9999. Chaotic: what decays is the difference between pairs that start
above and as far below c*, in which the curvature of C and the bias of finite width cancel.

Why: A layer behind which all inputs look alike, or all unrelated, gets no useful gradient. The
depth scale says before training how deep a network may be for its initialization.

Source: beyond the tutorials; Schoenholz et al. (2017), eq. 9 and figure 2.
Section: beyond A5.
Command: python -m experiments depth_scale [--data full]
Expected: all within 4 %.
Time: 21 s; 2 minutes with --data full, which makes the networks wider.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut.initializers import equal_variance, mean_field
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import COLORS, legend_below, look, tidy

BIAS_VARIANCE = 0.05


class Group(NamedTuple):
    """Networks of one activation in one phase."""

    activation: Callable
    is_ordered: bool
    points: list[tuple[float, float]]
    """Variances of weights, times the fan-in, and of biases."""


GROUPS = {
    "tanh, ordered": Group(jnp.tanh, True, [(1.0, BIAS_VARIANCE), (1.4, BIAS_VARIANCE)]),
    "tanh, chaotic": Group(jnp.tanh, False, [(6.0, BIAS_VARIANCE), (12.0, BIAS_VARIANCE)]),
    "ReLU, ordered": Group(jax.nn.relu, True, [(1.2, 0.2), (1.6, 0.2)]),
    "GELU, ordered": Group(jax.nn.gelu, True, [(1.0, 0.3), (1.5, 0.3)]),
}
CLOSE = 1e-4
"""Distance 1 - c of the pairs in the ordered phase."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    """Nothing is read: `full` makes the networks wider, and more of them."""
    num_networks: int = 16
    width: int | None = None
    """By default 512 for `full`, else 256."""
    depth: int = 24

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_networks=8)


class Result(NamedTuple):
    """For each group, arrays whose first axis is that of its points."""

    gaps: dict[str, np.ndarray]
    """What decays, shape (points, networks, layers); the first layer is the start."""
    predicted: dict[str, np.ndarray]
    """Depth scales, shape (points,)."""
    weight_variances: np.ndarray
    """A grid, and for it the depth scales of tanh."""
    curve: np.ndarray


@partial(jax.jit, static_argnames=("width", "depth"))
def measure(key, fields, width, depth):
    """Send pairs with known correlations through one network, for all points at once."""
    input_key, network_key = jax.random.split(key)
    starts = {
        name: jax.vmap(partial(pairs if group.is_ordered else triples, key, width))(fields[name])
        for (name, group), key in zip(
            GROUPS.items(), jax.random.split(input_key, len(GROUPS)), strict=True
        )
    }

    def layer(inputs, key):
        kernel_key, bias_key = jax.random.split(key)
        kernel = equal_variance()(kernel_key, (width, width))
        bias = jax.random.normal(bias_key, (width,))
        outputs, gaps = {}, {}
        for name, z in inputs.items():
            group = GROUPS[name]
            scale, shift = jnp.sqrt(jnp.array(group.points))[:, :, None, None, None].swapaxes(0, 1)
            outputs[name] = scale * (group.activation(z) @ kernel) + shift * bias
            gaps[name] = ordered_gap(z) if group.is_ordered else chaotic_gap(z)
        return outputs, gaps

    gaps = jax.lax.scan(layer, starts, jax.random.split(network_key, depth))[1]
    return {name: values.T for name, values in gaps.items()}


def pairs(key, width, field):
    """Draw 32 pairs of variance q* and correlation 1 - `CLOSE`, the members along axis 0."""
    one, other = jax.random.normal(key, (2, 32, width))
    c = 1 - CLOSE
    return jnp.sqrt(field.q_star) * jnp.stack([one, c * one + (1 - c**2) ** 0.5 * other])


def triples(key, width, field):
    """Draw 192 inputs of variance q*, each with one partner nearer than c*, one farther."""
    one, *others = jax.random.normal(key, (3, 192, width))
    reach = 0.3 * (1 - field.c_star)
    partners = [
        c * one + jnp.sqrt(1 - c**2) * other
        for c, other in zip((field.c_star + reach, field.c_star - reach), others, strict=True)
    ]
    return jnp.sqrt(field.q_star) * jnp.stack([one, *partners])


def ordered_gap(z):
    """Return the mean square of the difference: q* (1 - c), without a loss of digits."""
    return jnp.mean(jnp.square(z[:, 1] - z[:, 0]), axis=(1, 2)) / 2


def chaotic_gap(z):
    """Return by how much the near pairs are more correlated than the far ones."""
    unit = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    near, far = (jnp.mean(jnp.sum(unit[:, 0] * unit[:, k], axis=-1), axis=-1) for k in (1, 2))
    return near - far


def run(config: Config) -> Result:
    width = config.width or (512 if config.data == "full" else 256)
    fields = {
        name: mean_field(group.activation, *np.array(group.points, np.float32).T)
        for name, group in GROUPS.items()
    }
    keys = jax.random.split(jax.random.key(0), config.num_networks)
    runs = [jax.device_get(measure(key, fields, width, config.depth)) for key in keys]
    grid = np.linspace(0.6, 14, 135, dtype=np.float32)
    return Result(
        gaps={name: np.stack([one[name] for one in runs], axis=1) for name in GROUPS},
        predicted={name: np.asarray(field.depth_scale) for name, field in fields.items()},
        weight_variances=grid,
        curve=np.asarray(mean_field(jnp.tanh, grid, BIAS_VARIANCE).depth_scale),
    )


def measured_scale(runs: np.ndarray) -> tuple[float, float]:
    """Fit exp(-l / xi) to the first decade of the decay; return xi and its standard error."""
    mean = runs.mean(axis=0)
    fallen = mean < mean[0] / 10
    stop = int(fallen.argmax()) if fallen.any() else len(mean)
    layers = np.arange(1, max(stop, 3))  # the start has no scatter that could tell its weight
    relative = runs.std(axis=0, ddof=1) / np.sqrt(len(runs)) / mean
    weights = 1 / relative[layers]

    def fit(gaps):
        return -1 / np.polyfit(layers, np.log(gaps[layers]), 1, w=weights)[0]

    # Jackknife: the layers of one network are not independent.
    left_out = np.array([fit(np.delete(runs, i, axis=0).mean(axis=0)) for i in range(len(runs))])
    error = math.sqrt((len(runs) - 1) * np.mean(np.square(left_out - left_out.mean())))
    return float(fit(mean)), error


def check(result: Result) -> list[Claim]:
    claims, errors = [], []
    for name, gaps in result.gaps.items():
        for (weight_variance, _), runs, scale in zip(
            GROUPS[name].points, gaps, result.predicted[name], strict=True
        ):
            measured, _ = measured_scale(runs)
            text = (
                f"{name} at weight variance {weight_variance:g}: depth scale off theory, relative"
            )
            errors.append(abs(measured / scale - 1))
            claims.append(at_most(text, errors[-1], 0.05))
    scales = np.concatenate(list(result.predicted.values()))
    worst = f"depth scale off theory, relative, worst of {len(errors)} networks"
    return [
        *claims,
        at_most(worst, max(errors), 0.05, headline=True),
        at_least(
            "logarithm of the longest depth scale over the shortest", np.ptp(np.log(scales)), 1.0
        ),
        at_least("longest depth scale of tanh on the grid", result.curve.max(), 50.0),
    ]


def plot(result: Result):
    figure = new_figure(11, 4.8)
    left, right = figure.subplots(1, 2)
    curves = [
        (f"{name} {point[0]:g}", runs.mean(axis=0) / runs[:, 0].mean(), scale)
        for name, gaps in result.gaps.items()
        for point, runs, scale in zip(
            GROUPS[name].points, gaps, result.predicted[name], strict=True
        )
    ]
    for i, (name, mean, scale) in enumerate(curves):
        layers = np.arange(len(mean))
        stop = int(np.argmax(mean < 0.05)) or len(mean)
        style = look(i) | ({"markerfacecolor": "none"} if i >= len(COLORS) else {})
        left.plot(layers[:stop], mean[:stop], label=name, **style)
        left.plot(
            layers[:stop], np.exp(-layers[:stop] / scale), color="0.85", linewidth=6, zorder=0
        )
    left.set_yscale("log")
    tidy(
        left,
        xlabel="layer",
        ylabel="distance from c*, start = 1",
        title="Correlations decay as predicted (grey), by weight variance",
    )
    legend_below(left, columns=3)
    plot_lines(
        result.weight_variances,
        {"predicted": np.minimum(result.curve, 300)},
        xlabel="weight variance",
        ylabel="depth scale in layers (cut at 300)",
        yscale="log",
        title=f"The scale peaks at the edge of chaos (tanh, biases {BIAS_VARIANCE:g})",
        ax=right,
    )
    for i, name in enumerate(("tanh, ordered", "tanh, chaotic")):
        scales = np.array([measured_scale(runs) for runs in result.gaps[name]])
        variances = [point[0] for point in GROUPS[name].points]
        right.errorbar(
            variances, *scales.T, fmt="os"[i], color=COLORS[i + 1], capsize=2, label=name
        )
    legend_below(right)
    return {"depth_scale": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
