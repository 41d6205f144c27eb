"""Minimisers within bounds beside SciPy's: CUTEst's small bounded problems, and Rosenbrock's.

OPENBLAS_NUM_THREADS=1 python -m benchmarks bounds

The protocol is that of `sif`, with the projected gradient in place of the gradient; a start outside
is moved inside first. SciPy's TNC and trust-constr measure convergence otherwise: they are stopped
at the first point that is good enough. Compiling all takes some ten minutes; `--quick` takes every
tenth problem. Of Rosenbrock's function in n unknowns, every other one is kept at .5 or below.
"""

import statistics
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.descent import MAX_STEPS, rosenbrock
from benchmarks.measure import interleaved, median_ratio, print_table
from benchmarks.sif import Row, report, rows_of, run_ours, run_scipy
from jaxopt_tut.optimizers import lbfgsb, minimize, nonlinear_cg
from tests.peers import sif_problems
from tests.peers.sif_problems import MAX_EVALUATIONS, TOLERANCE

OURS = {"lbfgsb": lbfgsb(), "nonlinear_cg": nonlinear_cg()}
SCIPY = {
    "L-BFGS-B": {"gtol": TOLERANCE, "ftol": 0.0, "maxfun": MAX_EVALUATIONS, "maxiter": MAX_STEPS},
    "TNC": {"ftol": 0.0, "xtol": 0.0, "gtol": 0.0, "maxfun": MAX_EVALUATIONS},
    "trust-constr": {"gtol": 0.0, "xtol": 1e-15, "maxiter": sif_problems.MAX_STEPS},
}


def rows(names: list[str]) -> Iterator[Row]:
    for name, problem in sif_problems.load_bounded(names).items():
        runs = {solver: run_ours(problem, optimizer) for solver, optimizer in OURS.items()}
        runs |= {method: run_scipy(problem, method, given) for method, given in SCIPY.items()}
        yield from rows_of(name, problem, runs)


HEADER = [
    *("unknowns", "call", "jit", "scipy", "evaluations", "scipy's", "excess"),
    *("call / scipy", "jit / scipy"),
]


def box(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of which a half holds at the solution."""
    upper = np.full(size, np.inf)
    upper[::2] = 0.5
    return np.full(size, -2.0), upper


def size_rows(sizes, rounds):
    from scipy.optimize import minimize as scipy_minimize
    from scipy.optimize import rosen, rosen_der

    for size in sizes:
        start, (lower, upper) = np.tile([-1.2, 1.0], size // 2), box(size)
        w, bounds = jnp.array(start), (jnp.array(lower), jnp.array(upper))
        options = SCIPY["L-BFGS-B"] | {"maxiter": MAX_STEPS}
        ours = lambda w=w, bounds=bounds: jax.block_until_ready(
            minimize(rosenbrock, w, lbfgsb(), max_steps=MAX_STEPS, bounds=bounds)
        )
        pairs = list(zip(lower, upper, strict=True))
        theirs = lambda start=start, pairs=pairs, options=options: scipy_minimize(
            rosen, start, jac=rosen_der, method="L-BFGS-B", bounds=pairs, options=options
        )
        within = lambda w, bounds: (
            minimize(rosenbrock, w, lbfgsb(), max_steps=MAX_STEPS, bounds=bounds).params
        )
        compiled = jax.jit(within)
        jitted = lambda w=w, bounds=bounds, run=compiled: jax.block_until_ready(run(w, bounds))
        seconds = interleaved({"call": ours, "jit": jitted, "scipy": theirs}, rounds)
        yield [
            f"{size}",
            *(1e3 * statistics.median(s) for s in seconds.values()),
            int(ours().evaluations),
            theirs().nfev,
            float(ours().value) - theirs().fun,
            median_ratio(seconds["call"], seconds["scipy"]),
            median_ratio(seconds["jit"], seconds["scipy"]),
        ]


def starts_row(num_starts, rounds):
    from scipy.optimize import minimize as scipy_minimize
    from scipy.optimize import rosen, rosen_der

    lower, upper = box(2)
    bounds = jnp.array(lower), jnp.array(upper)
    starts = jnp.clip(2 * jax.random.normal(jax.random.key(1), (num_starts, 2)), *bounds)
    starts_np = np.asarray(starts)
    run = jax.jit(jax.vmap(lambda w: minimize(rosenbrock, w, lbfgsb(), bounds=bounds)))
    loop = lambda: [
        scipy_minimize(
            rosen,
            start,
            jac=rosen_der,
            method="L-BFGS-B",
            bounds=list(zip(lower, upper, strict=True)),
            options={"gtol": TOLERANCE},
        )
        for start in starts_np
    ]
    seconds = interleaved(
        {"here": lambda: jax.block_until_ready(run(starts)), "scipy": loop}, rounds
    )
    return [
        *(1e3 * statistics.median(s) for s in seconds.values()),
        float(jnp.mean(run(starts).converged)),
        median_ratio(seconds["scipy"], seconds["here"]),
    ]


def main(*, quick: bool = False) -> None:
    table = sif_problems.best_values("bounded")
    names = list(table)[:: 10 if quick else 1]
    with jax.enable_x64(True):
        print_table(
            "Rosenbrock's function within bounds, float64, milliseconds",
            HEADER,
            list(size_rows((2, 10, 100, 1000), 5 if quick else 15)),
        )
        num_starts = 100 if quick else 1000
        print_table(
            f"{num_starts} starts in two unknowns, milliseconds",
            ["here", "scipy's loop", "converged", "times faster"],
            [starts_row(num_starts, 3)],
        )
        title = f"{len(names)} problems of CUTEst with bounds and up to 10 unknowns, float64"
        report(rows(names), title, table, "sif_bounded")
