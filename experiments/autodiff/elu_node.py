"""With a rule of its own the ELU has no NaN in its derivative where its exponential overflows.

Question: What is gained by writing a node with its own derivative rule?

Claim: where(z > 0, z, alpha (exp(z) - 1)) is five operations, and from z = 88.7 on (log of the
largest float32) its derivative is NaN, in JAX as in our engine: the branch not taken overflows, and
infinity times zero is no zero. The custom node is one operation with the right derivative
everywhere, alpha at 0. The tutorial tests it on the sum of a softmax, whose gradient is zero
whatever the node does: there a wrong rule passes the check, and on a weighted sum it is caught.

Why: A branch that is not taken can still ruin the derivative by overflow. And a test by a loss
whose gradient is zero passes any rule, right or wrong.

Source: Technion tutorial 5, its ELU node and its test; Clevert et al. (2016), eq. 15.
Section: B3.
Command: python -m experiments elu_node
Expected: NaN from 88.72 on; the wrong rule's error 0 on the softmax, .2 on the sum.
Time: 5 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import autodiff
from jaxopt_tut.plotting import new_figure, plot_lines

ALPHA, TRAP = 0.5, 800.0
PLAIN, CUSTOM = "plain operations", "custom node"


def plain_elu(z):
    return jnp.where(z > 0, z, ALPHA * (jnp.exp(z) - 1))


def custom_elu(z):
    return autodiff.elu(z, ALPHA)


def softmax_loss(activation):
    """The tutorial's own test: a sum of probabilities, one whatever goes in."""
    return lambda z: jnp.sum(jax.nn.softmax(activation(z)))


def weighted_loss(activation):
    return lambda z: jnp.sum(activation(z) * jnp.arange(1, z.size + 1).astype(z.dtype))


# The mistake to find: a slope of alpha, not alpha exp(z), below zero.
wrong_elu = autodiff.custom_node(
    lambda z: (custom_elu(z), z), lambda z, g: g * jnp.where(z > 0, 1, ALPHA).astype(z.dtype)
)


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_points: int = 2001
    """Between -10 and 10 for the derivative, and as many between 80 and 100 for the trap."""
    num_units: int = 16
    """Of the losses."""
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_points=401)


class Result(NamedTuple):
    """For the plain operations and for the custom node."""

    num_operations: dict[str, int]
    z: np.ndarray
    slopes: dict[str, np.ndarray]
    exact: np.ndarray
    slope_at_zero: float
    z_large: np.ndarray
    large_slopes: dict[str, np.ndarray]
    trap_slopes: dict[str, tuple[float, float]]
    """At z = 800, by `jax.grad` and by our engine."""
    softmax_gradient: float
    """Largest component of the gradient of the tutorial's loss, float64."""
    wrong_rule: dict[str, float]
    """Error that `check_gradients` finds in the wrong rule, for each loss, float64."""
    right_rule: float
    """The same for the custom node and the weighted loss."""


def run(config: Config) -> Result:
    functions = {PLAIN: plain_elu, CUSTOM: custom_elu}
    operations = {name: len(autodiff.trace(f)(TRAP).nodes) - 1 for name, f in functions.items()}
    slope = {name: jax.jit(jax.vmap(jax.grad(f))) for name, f in functions.items()}
    z = np.linspace(-10, 10, config.num_points, dtype=np.float32)
    z_large = np.linspace(80, 100, config.num_points, dtype=np.float32)
    both = lambda f: jax.jit(lambda z: (jax.grad(f)(z), autodiff.grad(f)(z)))
    trap = {name: both(f)(TRAP) for name, f in functions.items()}
    with jax.enable_x64(True):
        point = jnp.asarray(np.random.default_rng(config.seed).standard_normal(config.num_units))
        gradient = jax.jit(jax.grad(softmax_loss(custom_elu)))(point)
        check = lambda loss: autodiff.check_gradients(loss, (point,)).error
        losses = {"softmax": softmax_loss, "weighted": weighted_loss}
        wrong = {name: check(loss(wrong_elu)) for name, loss in losses.items()}
        right = check(weighted_loss(custom_elu))
    return Result(
        num_operations=operations,
        z=z,
        slopes={name: np.asarray(by(z)) for name, by in slope.items()},
        exact=np.where(z > 0, 1, ALPHA * np.exp(np.minimum(z, 0).astype(np.float64))),
        slope_at_zero=float(jax.grad(custom_elu)(0.0)),
        z_large=z_large,
        large_slopes={name: np.asarray(by(z_large)) for name, by in slope.items()},
        trap_slopes={name: (float(a), float(b)) for name, (a, b) in trap.items()},
        softmax_gradient=float(np.max(np.abs(gradient))),
        wrong_rule=wrong,
        right_rule=right,
    )


def check(result: Result) -> list[Claim]:
    eps = np.finfo(np.float64).eps
    error = np.abs(result.slopes[CUSTOM] / result.exact - 1).max() / np.finfo(np.float32).eps
    nans = np.isnan(result.large_slopes[PLAIN])
    first = result.z_large[np.argmax(nans)] if nans.any() else np.inf
    spacing = result.z_large[1] - result.z_large[0]
    allowed = 1e-6  # what `check_gradients` itself allows in float64
    tutorial = "it tests its node on this loss; a wrong rule passes there"
    return [
        equal("operations of the custom node", result.num_operations[CUSTOM], 1, 0),
        at_least("operations of the plain ELU", result.num_operations[PLAIN], 5),
        at_least(
            "plain: NaN at z = 800, of two engines", np.isnan(result.trap_slopes[PLAIN]).sum(), 2
        ),
        equal("plain: first z with a NaN", first, np.log(np.finfo(np.float32).max), spacing),
        equal("custom: slope at z = 800, JAX", result.trap_slopes[CUSTOM][0], 1, 0),
        equal("custom: slope at z = 800, our engine", result.trap_slopes[CUSTOM][1], 1, 0),
        at_most(
            "custom: NaN between 80 and 100",
            np.isnan(result.large_slopes[CUSTOM]).sum(),
            0,
            headline=True,
        ),
        # An exponential within two units of the last place and one product.
        at_most("custom: relative error of the slope on [-10, 10], eps", error, 4),
        equal("custom: slope at 0 is alpha", result.slope_at_zero, ALPHA, 0),
        # Sixteen probabilities below 1, each rounded a few times, where the terms cancel.
        at_most("tutorial's loss: largest gradient", result.softmax_gradient, 16 * eps),
        at_most(
            "tutorial's loss: error found in a wrong rule",
            result.wrong_rule["softmax"],
            allowed,
            original=tutorial,
        ),
        at_least(
            "weighted loss: error found in a wrong rule", result.wrong_rule["weighted"], allowed
        ),
        at_most("weighted loss: error found in the right rule", result.right_rule, allowed),
    ]


def plot(result: Result):
    pictures = {}
    for title, fun in (("before", plain_elu), ("after", custom_elu)):
        graph = autodiff.trace(fun)(TRAP)
        values = graph.evaluate(TRAP)
        adjoints = graph.backpropagate(values, 1.0)
        # As many boxes as nodes: the custom node is not unfolded.
        pictures[title] = autodiff.draw(graph, values, adjoints, max_nodes=len(graph.nodes))
    figure = new_figure(10, 3.6)
    left, right = figure.subplots(1, 2)
    near = np.abs(result.z) <= 4
    plot_lines(
        result.z[near],
        {name: slopes[near] for name, slopes in result.slopes.items()},
        xlabel="z",
        ylabel="derivative of the ELU",
        title="On ordinary inputs both agree",
        ax=left,
    )
    plot_lines(
        result.z_large,
        result.large_slopes,
        xlabel="z",
        ylabel="derivative of the ELU",
        title="Where exp(z) overflows (grey) the plain one is NaN",
        ax=right,
    )
    nan = np.isnan(result.large_slopes[PLAIN])
    right.fill_between(result.z_large, 0, 1.2, where=nan, color="0.85", linewidth=0)
    right.set_ylim(0, 1.2)
    return {**pictures, "derivative": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
