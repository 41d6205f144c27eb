"""Reverse mode finds both derivatives of sin(xy) + exp(xy) in one pass, forward mode in two.

Question: How many passes do forward and reverse mode take for a function of two variables?

Claim: at (1, 2) the function is 8.298353525756 and its gradient (13.945818524767, 6.972909262384).
Every node's value, adjoint (derivative of the result by the node) and two tangents (derivatives of
the node by x and by y) equal those worked out by hand: the adjoint of the product xy sums over its
two children, cos 2 + e^2, and the tangents of the result are the adjoints of the inputs. The same
at random points, by our engine, compiled and mapped. All in float64.

Why: Six nodes can be checked by hand. What is seen there, one sweep back and a sum where a value is
used twice, is all of backpropagation.

Source: Technion tutorial 5, its worked example.
Section: B2.
Command: python -m experiments worked_example
Expected: six nodes, all numbers right to a few units in the last place.
Time: 2 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import autodiff
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import MARKERS, legend_below

POINT = (1.0, 2.0)
TUTORIAL = (8.298353525756, 13.945818524767, 6.972909262384)
NODES = ("x", "y", "xy", "sin xy", "exp xy", "sum")


def fun(x, y):
    product = x * y
    return jnp.sin(product) + jnp.exp(product)


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_points: int = 1000
    """Random points, uniform in [.1, 2] x [.1, 2], beside the tutorial's."""
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_points=100)


class Result(NamedTuple):
    """One number a node, in the order of `NODES`; what is by hand has the prefix `hand_`."""

    values: np.ndarray
    adjoints: np.ndarray
    tangents: np.ndarray
    """Shape (2, nodes): by x and by y."""
    hand_values: np.ndarray
    hand_adjoints: np.ndarray
    hand_tangents: np.ndarray
    gradients: np.ndarray
    """Of reverse mode at the random points, shape (points, 2)."""
    forward_gradients: np.ndarray
    hand_gradients: np.ndarray


def by_hand(x, y):
    """Work the example out on paper: values, adjoints, tangents."""
    product = x * y
    sine, exponential = np.sin(product), np.exp(product)
    slope = np.cos(product) + exponential  # the product has two children
    values = np.array([x, y, product, sine, exponential, sine + exponential])
    adjoints = np.array([y * slope, x * slope, slope, 1.0, 1.0, 1.0])
    tangents = [
        [own_x, own_y, by, by * np.cos(product), by * exponential, by * slope]
        for own_x, own_y, by in ((1.0, 0.0, y), (0.0, 1.0, x))
    ]
    return values, adjoints, np.array(tangents)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        graph = autodiff.trace(fun)(*POINT)
        values = graph.evaluate(*POINT)
        adjoints = graph.backpropagate(values, 1.0)
        tangents = [graph.jvp(values, seed) for seed in ((1.0, 0.0), (0.0, 1.0))]

        points = np.random.default_rng(config.seed).uniform(0.1, 2.0, (config.num_points, 2))
        x, y = jnp.asarray(points.T)
        reverse = jax.jit(jax.vmap(autodiff.grad(fun, (0, 1))))(x, y)
        seeds = jnp.eye(2)
        forward = jax.jit(
            jax.vmap(lambda *p: [autodiff.jvp(fun, p, tuple(seed))[1] for seed in seeds])
        )(x, y)
    hand_gradients = np.stack([by_hand(*point)[1][:2] for point in points])
    return Result(
        np.array(values),
        np.array(adjoints),
        np.array(tangents),
        *by_hand(*POINT),
        np.stack(reverse, axis=1),
        np.stack(forward, axis=1),
        hand_gradients,
    )


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest relative error in units of the last place; an exact zero must be zero."""
    scale = np.where(exact == 0, 1.0, np.abs(exact)) * np.finfo(np.float64).eps
    return float(np.max(np.abs(found - exact) / scale))


def check(result: Result) -> list[Claim]:
    # The tutorial prints twelve decimals: half a unit of the last one.
    value, by_x, by_y = TUTORIAL
    # At most four operations, each within about a unit of the last place, on either side.
    ulps = 8
    return [
        equal("f(1, 2)", result.values[-1], value, 5e-13),
        equal("adjoint of x", result.adjoints[0], by_x, 5e-13),
        equal("adjoint of y", result.adjoints[1], by_y, 5e-13),
        equal("nodes", result.values.size, len(NODES), 0),
        at_most("values against by hand, eps", _error(result.values, result.hand_values), ulps),
        at_most(
            "adjoints against by hand, eps", _error(result.adjoints, result.hand_adjoints), ulps
        ),
        at_most(
            "tangents against by hand, eps", _error(result.tangents, result.hand_tangents), ulps
        ),
        at_most(
            "two forward passes against one reverse pass, eps",
            _error(result.tangents[:, -1], result.adjoints[:2]),
            ulps,
            headline=True,
        ),
        at_most(
            "reverse mode at random points, eps",
            _error(result.gradients, result.hand_gradients),
            ulps,
        ),
        at_most(
            "forward mode at random points, eps",
            _error(result.forward_gradients, result.hand_gradients),
            ulps,
        ),
    ]


def plot(result: Result):
    with jax.enable_x64(True):
        graph = autodiff.trace(fun)(*POINT)
        picture = autodiff.draw(graph, list(result.values), list(result.adjoints))
    rows = {
        "adjoint, one pass back": result.adjoints,
        "tangent by x, a pass": result.tangents[0],
        "tangent by y, a pass": result.tangents[1],
    }
    places = np.arange(len(NODES))
    ax = plot_lines(
        places,
        rows,
        xlabel="node, from the inputs to the result",
        ylabel="derivative",
        title="Two passes forward end with the numbers that one pass back leaves on x and y",
        ax=new_figure(7.5, 4.2).subplots(),
    )
    for i, line in enumerate(ax.lines):
        line.set(marker=MARKERS[i], linewidth=1)
    for value in result.adjoints[:2]:
        ax.axhline(value, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ax.set_xticks(places, NODES)
    legend_below(ax)
    return {"graph": picture, "both_modes": ax.figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
