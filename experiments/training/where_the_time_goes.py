"""A step of a small network in a loop of calls takes over twice the time of one in a program.

Question: Where do the seconds go when a small network is trained in JAX?

Claim: 200 runs of Adam on a small network are one compiled program. A step in it takes a fraction
of a step in a loop of compiled calls, where handing over the arguments costs more than the
arithmetic. What is left is mostly the gradient: with plain steps instead of Adam's the program
saves a third. Compiling takes a good part of the whole, and drawing the starts and the order of the
examples inside of the program makes that longer, so that a race draws in programs of their own.

Why: For small networks the calls cost more than the arithmetic. Knowing which part is which decides
whether to compile the loop, batch the runs or change the optimizer.

Source: beyond the tutorials.
Section: beyond A7.
Command: python -m experiments where_the_time_goes
Expected: a step in a loop 9 times one in the program, plain steps .66 of Adam's; compiling 2.4
times as long with the draws inside, two thirds of 12 000 steps
Time: 8 s; with --whole, 300 steps and 9 rounds, 30 s.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.compilation_cache import compilation_cache

from experiments._claims import Claim, at_least, between
from experiments._runner import run_script
from experiments.training._entrants import log_rates
from jaxopt_tut.optimizers import adam, sgd
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.training import problems

BATCH, SIZE = 32, 6000


@dataclasses.dataclass(frozen=True)
class Config:
    """How many runs, of how many steps, and how often they are timed."""

    num_rates: int = 20
    num_seeds: int = 10
    num_steps: int = 60
    rounds: int = 5

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_rates=10, num_seeds=5, rounds=3)

    def whole(self) -> "Config":
        return dataclasses.replace(self, num_steps=300, rounds=9)


class Result(NamedTuple):
    """Processor seconds."""

    compiling: dict[str, float]
    """Of the program, the draws in programs of their own or inside."""
    step: dict[str, np.ndarray]
    """Of a step of one run, by round."""
    num_steps: int
    """Of all runs together."""


def run(config: Config) -> Result:
    problem = problems.relu_network(batch_size=BATCH)
    data = jax.tree.map(jnp.asarray, problem.data)
    rates = jnp.asarray(log_rates(config.num_rates), jnp.float32)
    keys = jax.random.split(jax.random.key(0), config.num_seeds)

    def draw(key):
        start, shuffle = jax.random.split(key)
        order = jax.random.permutation(shuffle, SIZE)[: config.num_steps * BATCH]
        return problem.init(start), order.reshape(config.num_steps, BATCH)

    def step(optimizer, carry, index, data):
        params, state = carry
        batch = jax.tree.map(lambda leaf: leaf[index], data)
        loss, grads = jax.value_and_grad(problem.loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    def lanes(make, start, order, rates, data):
        def lane(rate):
            optimizer = make(rate)
            body = lambda carry, index: step(optimizer, carry, index, data)
            return jax.lax.scan(body, (start, optimizer.init(start)), order)[1]

        return jax.vmap(lane)(rates)

    def outside(make):
        def all_seeds(drawn, rates, data):
            of_seed = lambda seed: lanes(make, seed[0], seed[1], rates, data)
            return jax.lax.map(of_seed, drawn)

        return all_seeds

    def inside(keys, rates, data):
        return outside(adam)(jax.lax.map(draw, keys), rates, data)

    drawn = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    compiling, programs = {}, {}
    for name, fun, given in (
        ("drawn before", outside(adam), drawn),
        ("drawn inside", inside, keys),
        ("plain steps", outside(sgd), drawn),
    ):
        lowered = jax.jit(fun).lower(given, rates, data)
        with without_kept_programs():
            begin = time.process_time()
            compiled = lowered.compile()
            compiling[name] = time.process_time() - begin
        programs[name] = lambda compiled=compiled, given=given: compiled(given, rates, data)

    optimizer = adam(1e-3)
    one_step = jax.jit(lambda carry, index, data: step(optimizer, carry, index, data))
    start, order = jax.tree.map(lambda leaf: leaf[0], drawn)
    indices = list(order)

    def loop():
        carry = start, optimizer.init(start)
        for index in indices:
            carry, loss = one_step(carry, index, data)
        return loss

    num_steps = config.num_rates * config.num_seeds * config.num_steps
    seconds = timed({**programs, "loop of calls": loop}, config.rounds)
    counts = dict.fromkeys(programs, num_steps) | {"loop of calls": config.num_steps}
    return Result(compiling, {n: s / counts[n] for n, s in seconds.items()}, num_steps)


@contextlib.contextmanager
def without_kept_programs() -> Iterator[None]:
    """Compile in any case: a program that an earlier run left on the disk would only be read."""
    before = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it asks for the setting once and remembers the answer
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def timed(programs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Return the processor seconds of each, in turns, after one call that is not timed."""
    seconds = {name: [] for name in programs}
    for number in range(1 + rounds):
        for name, call in programs.items():
            begin = time.process_time()
            jax.block_until_ready(call())
            if number:
                seconds[name].append(time.process_time() - begin)
    return {name: np.array(values) for name, values in seconds.items()}


def check(result: Result) -> list[Claim]:
    median = {name: float(np.median(step)) for name, step in result.step.items()}
    program = median["drawn before"]
    compiling = result.compiling["drawn before"]
    return [
        # 20 us against 100 us and more: the factor is far beyond what a busy machine adds
        at_least(
            "a step in a loop of calls over one in the program",
            median["loop of calls"] / program,
            2.0,
            headline=True,
        ),
        # the gradient is in both; a tenth is what timings in turns scatter by
        between("plain steps over those of Adam", median["plain steps"] / program, 0.4, 1.1),
        at_least(
            "compiling with the draws inside over compiling without",
            result.compiling["drawn inside"] / compiling,
            1.2,
        ),
        at_least(
            "compiling over compiling and running",
            compiling / (compiling + program * result.num_steps),
            0.1,
        ),
    ]


def plot(result: Result):
    figure = new_figure(9, 3)
    left, right = figure.subplots(1, 2)
    names = ["drawn before", "drawn inside"]
    left.barh(names, [result.compiling[name] for name in names], color="#2A8CD8")
    left.set_xlabel("compiling (processor seconds)")
    names = list(result.step)
    micro = {name: 1e6 * step for name, step in result.step.items()}
    right.barh(names, [np.median(micro[name]) for name in names], color="#AE8D00")
    for place, name in enumerate(names):
        right.plot(micro[name], np.full(len(micro[name]), place), "k.", markersize=4)
    right.set_xlabel("a step of one run (processor µs, dots: rounds)")
    return {"time": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
