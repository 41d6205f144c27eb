"""Implicit derivatives: the default linear solve beside peers, and a layer beside one by hand.

python -m benchmarks implicit
"""

import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.bilevel import (
    INNER_TOL,
    compiled,
    converged_peers,
    hypergrad_of,
    logistic,
    temporary_bytes,
    timed,
)
from benchmarks.measure import median_ratio, print_table
from jaxopt_tut.bilevel import CG, GMRES, AutoSolve, Dense, Implicit, Minimize, Picard, layers
from jaxopt_tut.linalg import gmres
from jaxopt_tut.optimizers import lbfgs
from jaxopt_tut.vectors import ravel

STEPS = 30
TOL = 1e-5


def rows(functions, inputs, rounds, bases):
    """Time programs in turns, beside each of `bases`."""
    programs, compiling = {}, {}
    for name, fun in functions.items():
        programs[name], compiling[name] = compiled(fun, *inputs)
    seconds = timed(programs, inputs, rounds)
    for name, row in seconds.items():
        ratios = [median_ratio(row, seconds[base]) if base in seconds else "" for base in bases]
        memory = temporary_bytes(programs[name]) / 2**20
        yield name, 1e3 * statistics.median(row), *ratios, memory, compiling[name]


def solves(case):
    """Return the gradient through converged L-BFGS by each linear solve, and those of peers."""
    converged = partial(hypergrad_of, case, 1000, solver=Minimize(lbfgs()), tol=INNER_TOL)
    modes = {"AutoSolve()": AutoSolve(), "CG()": CG(), "Dense()": Dense()}
    own = {f"Implicit({name})": converged(Implicit(solve)) for name, solve in modes.items()}
    return {**own, **converged_peers(case)}


def layer(params, y, x):
    return jnp.tanh(y @ params["inner"] + x @ params["outer"])


def by_library(diff):
    def value(params, x):
        options = {"solver": Picard(), "steps": STEPS, "diff": diff}
        return jnp.sum(layers.deq(layer, params, x, y0=jnp.zeros_like(x), **options) ** 2)

    return jax.grad(value)


def by_hand():
    """Return the gradient of the same loss, with rules of the fixed point written out."""

    @jax.custom_vjp
    def point(params, x):
        return jax.lax.fori_loop(0, STEPS, lambda _, y: layer(params, y, x), jnp.zeros_like(x))

    def forwards(params, x):
        y = point(params, x)
        return y, (params, x, y)

    def backwards(kept, cotangent):
        params, x, y = kept
        _, pull = jax.vjp(lambda params, y: layer(params, y, x), params, y)
        flat, unravel = ravel(cotangent)
        product = lambda u: u - ravel(pull(unravel(u))[1])[0]
        found = gmres(product, flat, tol=TOL, max_steps=10_000, restart=20)
        return pull(unravel(found.x))[0], jnp.zeros_like(x)

    point.defvjp(forwards, backwards)
    return jax.grad(lambda params, x: jnp.sum(point(params, x) ** 2))


def equilibrium(batch, width=64):
    """Return weights of a layer that contracts, and a batch of inputs."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    weights = {"inner": 0.4 * draw(width, width) / width**0.5, "outer": draw(width, width) / 8}
    return weights, draw(batch, width)


def main(quick: bool = False) -> None:
    rounds = 7 if quick else 61
    case = logistic()
    peers = [name for name in converged_peers(case)]
    header = ("program", "ms", "of CG()", *(f"of {name.split(',')[0]}" for name in peers))
    print_table(
        "Logistic regression, 1000 examples of 100 features, converged L-BFGS: its gradient",
        (*header, "temporary MB", "s to compile"),
        list(rows(solves(case), (case.z, case.data), rounds, ["Implicit(CG())", *peers])),
    )
    for batch in (1, 100):
        variants = {
            "deq, Implicit(GMRES())": by_library(Implicit(GMRES(), tol=TOL)),
            "deq, Implicit()": by_library(Implicit(tol=TOL)),
            "custom_vjp by hand, GMRES": by_hand(),
        }
        print_table(
            f"Fixed point of {batch} x 64 unknowns, {STEPS} steps: its gradient",
            ("program", "ms", "of that by hand", "temporary MB", "s to compile"),
            list(rows(variants, equilibrium(batch), rounds, ["custom_vjp by hand, GMRES"])),
        )
