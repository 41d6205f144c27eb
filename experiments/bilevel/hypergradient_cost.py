"""Memory of a hypergradient grows with T, with its square or its fourth root, or not at all.

Question: How much memory does the derivative through an inner loop take?

Claim: the memory of an exact derivative through T inner steps grows like T where all steps are
kept, like its square root with checkpoints nested twice, like its fourth root with four levels, and
not at all in forward mode. That of truncated, one-step and implicit derivatives, which answer
another question, is constant too. Read off the bytes that the compiler states, whose growth from
T = 16 to 256 to 4096 has the exponent of the law whatever its constant; each checkpoint holds the
variables and the optimizer's state, no more. Time is drawn, not judged.

Why: Memory that grows with the number of steps is what ends an unrolled run. Checkpoints trade it
for a known amount of computing, with the same derivative.

Source: Technion tutorial 5, which unrolls its inner loop; Griewank and Walther (2008), "Evaluating
Derivatives", chapter 12, for checkpoints; Franceschi et al. (2017) for forward mode.
Section: B4.
Command: python -m experiments hypergradient_cost
Expected: exponents 1, 1/2, 1/4 and no growth for the others.
Time: 14 s.
"""

import dataclasses
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.bilevel import CG, Forward, Implicit, OneStep, Truncate, Unroll, hypergrad
from jaxopt_tut.optimizers import momentum
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import legend_below, look, tidy

COUNTS = (16, 256, 4096)
"""T; its square and fourth roots are whole, and each is 16 times the one before."""
UNROLLED = {
    "Unroll()": Unroll(),
    "Unroll('sqrt')": Unroll("sqrt"),
    "Unroll(4)": Unroll(4),
}
FLAT = {
    "Forward()": Forward(),
    "Truncate(8)": Truncate(8),
    "OneStep()": OneStep(),
    "Implicit(CG())": Implicit(CG()),
}
"""Measured at the first and the last T only."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    dim: int = 1000
    """Inner variables."""
    num_timings: int = 3
    modes: tuple[str, ...] = (*UNROLLED, *FLAT)

    def quick(self) -> "Config":
        return dataclasses.replace(self, modes=("Unroll()", "Unroll('sqrt')", "Forward()"))


class Result(NamedTuple):
    """By mode, one number for each T."""

    num_bytes: dict[str, np.ndarray]
    """Temporary memory of the compiled program, in sizes of the inner variables."""
    seconds: dict[str, np.ndarray]
    """Of one call, the least of some."""


def f(y, z):
    return jnp.mean(0.5 * (y - 1.0) ** 2 + jnp.exp(z) * y**4)


def outer(y, _):
    return jnp.mean((y - 0.5) ** 2)


def counts(name: str) -> tuple[int, ...]:
    """Return the T that a mode is measured at."""
    return (COUNTS[0], COUNTS[-1]) if name in FLAT else COUNTS


def run(config: Config) -> Result:
    inputs = jnp.zeros(config.dim), jnp.float32(-1.0)
    # The loss is a mean: its gradient shrinks with the number of variables.
    solver = momentum(0.1 * config.dim)

    def lower(mode, num_steps):
        def gradient(y0, z):
            return hypergrad(outer, f, y0, z, solver=solver, steps=num_steps, diff=mode)[:2]

        return jax.jit(gradient).lower(*inputs)

    lowered = {
        (name, count): lower((UNROLLED | FLAT)[name], count)
        for name in config.modes
        for count in counts(name)
    }
    # XLA compiles without Python's lock: two at a time.
    with ThreadPoolExecutor(2) as pool:
        compiled = pool.map(lambda program: program.compile(), lowered.values())
        programs = dict(zip(lowered, compiled, strict=True))

    def size(program) -> float:
        return program.memory_analysis().temp_size_in_bytes / (4 * config.dim)

    def seconds(program) -> float:
        times = []
        for _ in range(config.num_timings):
            start = time.perf_counter()
            jax.block_until_ready(program(*inputs))
            times.append(time.perf_counter() - start)
        return min(times)

    rows = lambda measure: {
        name: np.array([measure(programs[name, count]) for count in counts(name)])
        for name in config.modes
    }
    return Result(rows(size), rows(seconds))


def check(result: Result) -> list[Claim]:
    claims, off = [], []
    for name, sizes in result.num_bytes.items():
        if name in FLAT:
            ratio = sizes[1] / sizes[0]
            off.append(abs(np.log(ratio) / np.log(COUNTS[-1] / COUNTS[0])))
            claims.append(equal(f"{name}: memory at T = 4096 over T = 16", ratio, 1.0, 0.02))
            continue
        levels, growth = UNROLLED[name].levels, np.diff(sizes)
        # a + b T^p grows from 16 to 256, and from there to 4096, by amounts of the ratio 16^p.
        found = np.log(growth[1] / growth[0]) / np.log(COUNTS[1] / COUNTS[0])
        off.append(abs(found - 1 / max(levels, 1)))
        text = f"{name}: exponent of T in the memory"
        # Loop counters, 64 bytes each beside the 4000 of the variables, may come and go.
        claims.append(equal(text, found, 1 / max(levels, 1), 0.02))
        if levels:
            checkpoints = levels * np.diff(np.array(COUNTS) ** (1 / levels))
            text = f"{name}: memory of a checkpoint, in sizes of the variables"
            # The variables and the momentum; a derivative may do without one of them.
            claims.append(at_most(text, (growth / checkpoints).max(), 2.02))
    text = "exponents of T in the memory, farthest from 1, 1/2, 1/4 and 0"
    return [at_most(text, np.max(off), 0.02, headline=True), *claims]


def plot(result: Result):
    figure = new_figure(11, 4.8)
    panels = (
        (
            "temporary memory, in sizes of the inner variables",
            result.num_bytes,
            "Memory grows with T, with a root of it, or not at all",
        ),
        ("seconds of one hypergradient", result.seconds, "Time, as measured here"),
    )
    for ax, (ylabel, rows, title) in zip(figure.subplots(1, 2), panels, strict=True):
        for i, (name, values) in enumerate(rows.items()):
            ax.plot(counts(name), values, label=name, **look(i))
        ax.set_xscale("log", base=4)
        ax.set_yscale("log")
        legend_below(ax, columns=3)
        tidy(ax, xlabel="inner steps, T", ylabel=ylabel, title=title)
    return {"cost": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
