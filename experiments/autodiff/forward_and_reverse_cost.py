"""Reverse mode costs as much for 512 inputs as for 2, forward mode for 512 outputs as for 2.

Question: When is backpropagation cheaper than pushing derivatives forward?

Claim: a gradient by reverse mode takes about two evaluations of the function whether it has 2
inputs or 512; by forward mode it takes one pass an input, so one evaluation more for each. For a
curve (one input, m outputs) it is the other way round. Counted in the FLOPs of the compiled
programs of our engine, which JAX's own modes match; time is reported only.

Why: A loss has one output and millions of parameters. Reverse mode makes its gradient cost about
two evaluations; forward mode would take one for each parameter.

Source: Technion tutorial 5, "one pass per input, reverse mode one"; the bound: Griewank and Walther
(2008), "Evaluating Derivatives", section 4.6: a gradient costs at most 4 evaluations.
Section: B2.
Command: python -m experiments forward_and_reverse_cost
Expected: at 512: 2.0 evaluations by the cheap mode, 512 by the other.
Time: 5 s.
"""

import dataclasses
import sys
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import autodiff
from jaxopt_tut.plotting import new_figure, plot_lines

FULL_PRODUCTS = True  # claims to the rounding of float32
WIDTH = 64
FORWARD, REVERSE = "forward", "reverse"
INPUTS, OUTPUTS = "inputs", "outputs"


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    sizes: tuple[int, ...] = (2, 32, 512)
    """How many inputs, and how many outputs, the network has; the other number is one."""
    num_timings: int = 20
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, sizes=(2, 32), num_timings=5)


class Result(NamedTuple):
    """For each growing side and each mode."""

    sizes: np.ndarray
    cost: dict[str, dict[str, np.ndarray]]
    """FLOPs of the Jacobian over those of the function, shape (sizes,)."""
    peer_cost: dict[str, dict[str, float]]
    """The same by JAX's modes, at the largest size."""
    difference: dict[str, float]
    """Between the two modes' Jacobians at the largest size, relative, Frobenius norms."""
    seconds: dict[str, float]
    """Of one compiled gradient at the largest number of inputs, median."""


def jacobian_forward(fun, x, seeds, jvp):
    return jax.vmap(lambda seed: jvp(fun, (x,), (seed,)), out_axes=(None, 1))(seeds)


def jacobian_reverse(fun, x, seeds, vjp):
    value, pull = vjp(fun, x)
    return value, jax.vmap(pull)(seeds)[0]


BUILD = {FORWARD: jacobian_forward, REVERSE: jacobian_reverse}
OURS = {FORWARD: autodiff.jvp, REVERSE: autodiff.vjp}
PEERS = {FORWARD: jax.jvp, REVERSE: jax.vjp}


def measure(size, side, modes, seed):
    """Compile value and Jacobian by both modes; return their relative cost, and the calls."""
    num_inputs, num_outputs = (size, 1) if side == INPUTS else (1, size)
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32) / np.sqrt(shape[-1])
    weights = [draw(WIDTH, num_inputs), draw(WIDTH, WIDTH), draw(num_outputs, WIDTH)]
    x, seeds = draw(num_inputs), {FORWARD: np.eye(num_inputs), REVERSE: np.eye(num_outputs)}

    # Weights and seeds are arguments, so that XLA cannot fold them into the program.
    def jacobian(name, weights, x, seeds):
        return BUILD[name](partial(network, weights), x, seeds, modes[name])

    base = _flops(jax.jit(network).lower(weights, x).compile())
    cost, calls = {}, {}
    for name in modes:
        arguments = (weights, x, seeds[name].astype(np.float32))
        program = jax.jit(partial(jacobian, name)).lower(*arguments).compile()
        cost[name], calls[name] = _flops(program) / base, partial(program, *arguments)
    return cost, calls


def network(weights, x):
    first, second, last = weights
    return last @ jnp.tanh(second @ jnp.tanh(first @ x))


def _flops(program) -> float:
    return program.cost_analysis()["flops"]


def run(config: Config) -> Result:
    cost, peer_cost, difference, seconds = {}, {}, {}, {}
    for side in (INPUTS, OUTPUTS):
        rows = [measure(size, side, OURS, config.seed) for size in config.sizes]
        cost[side] = {name: np.array([row[0][name] for row in rows]) for name in OURS}
        peer_cost[side], _ = measure(config.sizes[-1], side, PEERS, config.seed)
        calls = rows[-1][1]
        forward, reverse = (np.asarray(calls[name]()[1]) for name in (FORWARD, REVERSE))
        difference[side] = float(np.linalg.norm(forward - reverse) / np.linalg.norm(reverse))
        if side == INPUTS:
            seconds = {name: _median_time(call, config.num_timings) for name, call in calls.items()}
    return Result(np.array(config.sizes), cost, peer_cost, difference, seconds)


def _median_time(call, repeats) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def check(result: Result) -> list[Claim]:
    claims, spreads = [], []
    largest = result.sizes[-1]
    # Roundings of the dot products on the way: one a term, at most eps each.
    rounding = (largest + 2 * WIDTH) * np.finfo(np.float32).eps
    for side, cheap, dear in ((INPUTS, REVERSE, FORWARD), (OUTPUTS, FORWARD, REVERSE)):
        costs = result.cost[side]
        spread = costs[cheap].max() / costs[cheap].min()
        spreads.append(spread)
        passes = costs[dear][-1] / (1 + largest)
        excess = max(abs(costs[n][-1] / c - 1) for n, c in result.peer_cost[side].items())
        claims += [
            # Griewank and Walther's bound, for any size.
            at_most(f"more {side}: {cheap} mode, evaluations", costs[cheap].max(), 4.0),
            # Beside the dot products of width 64 there are a few operations an element.
            at_most(f"more {side}: {cheap} mode, dearest over cheapest", spread, 1.1),
            equal(f"more {side}: {dear} mode, evaluations over 1 + {largest}", passes, 1.0, 0.1),
            at_most(f"more {side}: our FLOPs over JAX's, distance from 1", excess, 0.05),
            at_most(f"more {side}: difference of the modes", result.difference[side], rounding),
        ]
    speed = result.seconds[FORWARD] / result.seconds[REVERSE]
    text = f"time of forward over reverse mode, {largest} inputs"
    cheap = "reverse mode by inputs, forward mode by outputs: dearest over cheapest, the larger"
    return [
        *claims,
        at_most(cheap, np.max(spreads), 1.1, headline=True),
        at_least(text, speed, 2.0, required=False),
    ]


def plot(result: Result):
    figure = new_figure(10, 4)
    for side, ax in zip(result.cost, figure.subplots(1, 2, sharey=True), strict=True):
        flat = REVERSE if side == INPUTS else FORWARD
        plot_lines(
            result.sizes,
            {f"{name} mode": costs for name, costs in result.cost[side].items()},
            xlabel=f"{side} (one {'output' if side == INPUTS else 'input'})",
            ylabel="FLOPs of the Jacobian\nover those of the function",
            xscale="log",
            yscale="log",
            title=f"More {side}: the cost of {flat} mode stays the same",
            ax=ax,
        )
        for line, marker in zip(ax.lines, "os", strict=True):
            line.set_marker(marker)
    return {"cost": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
