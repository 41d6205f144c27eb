"""Solvers of equations on CUTEst's square systems of up to 10 unknowns, beside other libraries'.

OPENBLAS_NUM_THREADS=1 python -m benchmarks roots

Each starts where the problem says and may take 500 steps. A system is solved where no component is
larger than 1e-6. Times are of a second run, compile time apart. `--quick` takes every fifth one.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import print_table
from jaxopt_tut.bilevel import Broyden, Newton, NewtonKrylov, root
from tests.peers.sif_problems import Equations, load_equations

OURS = {"Newton": Newton(), "Broyden": Broyden(), "NewtonKrylov": NewtonKrylov()}
MAX_STEPS, SOLVED = 500, 1e-6


def run_ours(problem: Equations, solver) -> Callable[[], np.ndarray]:
    # without a derivative: nothing but the solution is asked for
    solve = jax.jit(
        lambda y: (
            root(lambda y, _: problem.fun(y), y, None, solver=solver, steps=MAX_STEPS, tol=1e-10).y
        )
    )
    return lambda: np.asarray(solve(jnp.asarray(problem.start)))


def run_scipy(problem: Equations) -> Callable[[], np.ndarray]:
    from scipy.optimize import root as scipy_root

    fun, jacobian = jax.jit(problem.fun), jax.jit(jax.jacfwd(problem.fun))

    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of slow progress
            return scipy_root(
                lambda y: np.array(fun(y)),
                problem.start,
                jac=lambda y: np.array(jacobian(y)),
                method="hybr",
                options={"xtol": 1e-12, "maxfev": 10 * MAX_STEPS},
            ).x

    return run


def run_optimistix(problem: Equations, name: str) -> Callable[[], np.ndarray]:
    import optimistix

    solver = getattr(optimistix, name)(rtol=1e-10, atol=1e-10)
    solve = jax.jit(
        lambda y: (
            optimistix.root_find(
                lambda y, _: problem.fun(y), solver, y, max_steps=MAX_STEPS, throw=False
            ).value
        )
    )
    return lambda: np.asarray(solve(jnp.asarray(problem.start)))


def rows(problems: dict[str, Equations]) -> Iterator[tuple[str, str, bool, float]]:
    """Yield the problem, the solver, whether it solved it, and seconds."""
    for name, problem in problems.items():
        runs = {solver: run_ours(problem, made) for solver, made in OURS.items()}
        runs["SciPy hybr"] = run_scipy(problem)
        for solver in ("Newton", "Dogleg"):
            runs[f"optimistix {solver}"] = run_optimistix(problem, solver)
        fun = jax.jit(problem.fun)
        for solver, run in runs.items():
            end, seconds = np.full_like(problem.start, np.nan), 0.0
            # optimistix asks for a linear solve that raises where a Jacobian is singular
            with contextlib.suppress(RuntimeError, ValueError):
                run()
                start = time.perf_counter()
                end = run()
                seconds = time.perf_counter() - start
            yield name, solver, bool(np.max(np.abs(fun(end))) <= SOLVED), seconds
        jax.clear_caches()


def main(*, quick: bool = False) -> None:
    with jax.enable_x64(True):
        problems = load_equations()
        chosen = dict(list(problems.items())[:: 5 if quick else 1])
        found = list(rows(chosen))
    by_solver: dict[str, list[tuple[str, str, bool, float]]] = {}
    for row in found:
        by_solver.setdefault(row[1], []).append(row)
    print_table(
        f"{len(chosen)} systems of CUTEst with up to 10 unknowns, float64",
        ["solver", "solved", "seconds"],
        [
            [solver, sum(row[2] for row in mine), sum(row[3] for row in mine)]
            for solver, mine in by_solver.items()
        ],
    )
    for solver, mine in by_solver.items():
        print(f"{solver} misses", *(row[0] for row in mine if not row[2]))
