"""Hypergradients: memory in sizes of the parameters, and time beside optimistix and plain JAX.

python -m benchmarks bilevel

optimistix takes part where it can be imported.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut.bilevel import CG, AutoSolve, Forward, Implicit, Minimize, Unroll, argmin, hypergrad
from jaxopt_tut.optimizers import adam, lbfgs, sgd

NUM_PARAMS = 200_000
NUM_STEPS = 1024


def wide(y, z):
    """Return an inner loss of many parameters that itself needs next to no memory."""
    return 0.5 * jnp.mean((y - 1.0) ** 2) + jnp.exp(z) * jnp.mean(y**4)


def wide_outer(y, z):
    del z
    return jnp.mean((y - 0.5) ** 2)


def wide_hypergrad(mode, num_steps):
    def run(y0, z):
        value, grads, _ = hypergrad(
            wide_outer, wide, y0, z, solver=adam(1e-2), steps=num_steps, diff=mode
        )
        return value, grads

    return run


def optimistix_adam(num_steps, checkpoints):
    """Return optimistix' checkpointed adjoint of as many Adam steps, or None without it."""
    try:
        import optax
        import optimistix as optx
    except ImportError:
        return None
    solver = optx.OptaxMinimiser(optax.adam(1e-2, eps_root=1e-16), rtol=0.0, atol=0.0)
    adjoint = optx.RecursiveCheckpointAdjoint(checkpoints=checkpoints)

    def value(z, y0):
        found = optx.minimise(
            wide, solver, y0, z, max_steps=num_steps, adjoint=adjoint, throw=False
        )
        return wide_outer(found.value, z)

    return lambda y0, z: jax.value_and_grad(value)(z, y0)


def compiled(fun, *inputs):
    start = time.perf_counter()
    program = jax.jit(fun).lower(*inputs).compile()
    return program, time.perf_counter() - start


def temporary_bytes(program):
    analysis = program.memory_analysis()
    return float("nan") if analysis is None else analysis.temp_size_in_bytes


def memory_rows(num_steps):
    inputs = jnp.zeros(NUM_PARAMS), jnp.float32(-1.0)
    curvature = lambda y0, z: jax.jvp(
        lambda z: wide_hypergrad(Unroll(5), num_steps)(y0, z)[1]["z"], (z,), (z,)
    )
    variants = {
        f"Unroll(5), T = {num_steps}": wide_hypergrad(Unroll(5), num_steps),
        f"Unroll(5), T = {num_steps - 24}": wide_hypergrad(Unroll(5), num_steps - 24),
        "forward over Unroll(5)": curvature,
        "Unroll('sqrt')": wide_hypergrad(Unroll("sqrt"), num_steps),
        "Unroll()": wide_hypergrad(Unroll(), num_steps),
        f"Forward(), T = {num_steps}": wide_hypergrad(Forward(), num_steps),
        f"Forward(), T = {8 * num_steps}": wide_hypergrad(Forward(), 8 * num_steps),
        "Implicit(CG())": wide_hypergrad(Implicit(CG()), num_steps),
        "Implicit(AutoSolve())": wide_hypergrad(Implicit(AutoSolve()), num_steps),
        "optimistix, 16 checkpoints": optimistix_adam(num_steps, 16),
    }
    for name, fun in variants.items():
        if fun is None:
            yield name, "not installed", ""
            continue
        program, seconds = compiled(fun, *inputs)
        yield name, temporary_bytes(program) / (4 * NUM_PARAMS), seconds


def checkpoint_rows(num_steps, rounds):
    """Time the two programs of equal memory."""
    inputs = jnp.zeros(NUM_PARAMS), jnp.float32(-1.0)
    theirs = optimistix_adam(num_steps, 16)
    if theirs is None:
        return [("optimistix", "not installed", "")]
    programs = {
        "Unroll(5)": compiled(wide_hypergrad(Unroll(5), num_steps), *inputs)[0],
        "optimistix, 16 checkpoints": compiled(theirs, *inputs)[0],
    }
    seconds = interleaved(
        {
            name: lambda program=program: jax.block_until_ready(program(*inputs))
            for name, program in programs.items()
        },
        rounds,
    )
    base = seconds["optimistix, 16 checkpoints"]
    return [(n, 1e3 * statistics.median(s), median_ratio(s, base)) for n, s in seconds.items()]


def logistic(num_examples=1000, dim=100):
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.standard_normal((2, num_examples, dim)), "float32")
    signs = jnp.sign(inputs @ jnp.asarray(rng.standard_normal(dim), "float32"))

    def loss(y, half):
        return jnp.mean(jnp.logaddexp(0.0, -signs[half] * (inputs[half] @ y)))

    f = lambda y, z: loss(y, 0) + 0.5 * jnp.exp(z) * jnp.sum(y**2)
    outer = lambda y, _: loss(y, 1)
    return f, outer, jnp.zeros(dim)


def time_rows(num_steps, rounds):
    f, outer, y0 = logistic()
    rate = 0.5

    def forward(z):
        return outer(argmin(f, y0, z, solver=sgd(rate), steps=num_steps).y, z)

    def by_hand(z):
        def value(z):
            step = lambda y, _: (y - rate * jax.grad(f)(y, z), None)
            return outer(jax.lax.scan(step, y0, length=num_steps)[0], z)

        return jax.value_and_grad(value)(z)

    def ours(mode, solver=None, tol=None):
        def run(z):
            value, grads, _ = hypergrad(
                outer, f, y0, z, solver=solver or sgd(rate), steps=num_steps, diff=mode, tol=tol
            )
            return value, grads

        return run

    variants = {
        "forward pass": forward,
        "scan and grad by hand": by_hand,
        "Unroll()": ours(Unroll()),
        "Unroll('sqrt')": ours(Unroll("sqrt")),
        "Forward()": ours(Forward()),
        "Implicit(), L-BFGS to 1e-4": ours(Implicit(), Minimize(lbfgs()), 1e-4),
        **_optimistix_bfgs(f, outer, y0),
    }
    z = jnp.float32(-3.0)
    programs = {name: compiled(fun, z)[0] for name, fun in variants.items()}
    seconds = interleaved(
        {
            name: lambda program=program: jax.block_until_ready(program(z))
            for name, program in programs.items()
        },
        rounds,
    )
    for name, program in programs.items():
        memory = temporary_bytes(program) / 2**20
        ratio = median_ratio(seconds[name], seconds["forward pass"])
        yield name, 1e3 * statistics.median(seconds[name]), ratio, memory


def _optimistix_bfgs(f, outer, y0):
    try:
        import optimistix as optx
    except ImportError:
        return {}

    def run(z):
        def value(z):
            solver = optx.BFGS(rtol=1e-4, atol=1e-4)
            return outer(optx.minimise(f, solver, y0, z, throw=False).value, z)

        return jax.value_and_grad(value)(z)

    return {"optimistix, BFGS, implicit": run}


def main(quick: bool = False) -> None:
    rounds = 3 if quick else 7
    print_table(
        f"Memory of a hypergradient through Adam, {NUM_PARAMS} float32 parameters",
        ("mode", "sizes of the parameters", "s to compile"),
        list(memory_rows(NUM_STEPS)),
    )
    num_steps = 256 if quick else NUM_STEPS
    print_table(
        f"Through {num_steps} Adam steps in little memory",
        ("program", "ms", "of optimistix"),
        checkpoint_rows(num_steps, 3),
    )
    for count in (10, 100):
        print_table(
            f"Logistic regression, 1000 examples of 100 features, T = {count}",
            ("program", "ms", "of the forward pass", "temporary MB"),
            list(time_rows(count, rounds)),
        )
