"""Minimisers on the 102 small unconstrained problems of CUTEst, beside other libraries'.

OPENBLAS_NUM_THREADS=1 python -m benchmarks sif

The problems are those of `sif2jax`. Each solver starts where the problem says and may take 2000
steps and 10 000 evaluations, to gtol = 1e-6. A problem is solved where the gradient and the value
are small enough; see `tests/peers/sif_problems.py`. Evaluations are of the value with its gradient.
Times are of a second run, compile time apart. Compiling five solvers on each problem takes half an
hour; `--quick` takes every tenth problem. The rows and the data profiles go to `results/`.
"""

import contextlib
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import print_table
from jaxopt_tut.optimizers import bfgs, lbfgs, minimize, newton, newton_cg, trust_region
from tests.peers.sif_problems import (
    MAX_EVALUATIONS,
    MAX_STEPS,
    TOLERANCE,
    Problem,
    best_values,
    load,
)

OURS = {
    "bfgs": bfgs(),
    "lbfgs": lbfgs(),
    "newton": newton(),
    "newton_cg": newton_cg(),
    "trust_region": trust_region(),
}
SCIPY = {
    "BFGS": {"gtol": TOLERANCE},
    "L-BFGS-B": {"gtol": TOLERANCE, "ftol": 0.0, "maxfun": MAX_EVALUATIONS},
    "Newton-CG": {"xtol": 1e-14},  # no gtol: the callback stops it
    "trust-exact": {"gtol": TOLERANCE},
}
RESULTS = Path("results")


class Row(NamedTuple):
    """How one solver ended on one problem."""

    problem: str
    num_unknowns: int
    solver: str
    value: float
    grad_norm: float
    evaluations: int
    seconds: float
    is_solved: bool


class _Ended(Exception):
    pass


def run_ours(problem: Problem, optimizer) -> Callable[[], tuple[np.ndarray, int]]:
    def run():
        solution = minimize(
            problem.fun,
            jnp.asarray(problem.start),
            optimizer,
            max_steps=MAX_STEPS,
            gtol=TOLERANCE,
            bounds=problem.bounds,
        )
        return np.asarray(solution.params), int(solution.evaluations)

    return run


def run_scipy(problem: Problem, method: str, options: dict) -> Callable[[], tuple[np.ndarray, int]]:
    from scipy.optimize import minimize as scipy_minimize

    both = jax.jit(jax.value_and_grad(problem.fun))
    second = jax.jit(jax.hessian(problem.fun))
    more: dict[str, Any] = {}
    if method in _SECOND_ORDER:
        more["hess"] = lambda x: np.array(second(x))
    if problem.bounds is not None:
        more["bounds"] = list(zip(*problem.bounds, strict=True))

    def run():
        end, count = problem.start, 0

        def evaluate(x):
            nonlocal count, end
            count += 1
            if count > MAX_EVALUATIONS:
                raise _Ended
            value, grad = both(x)
            if method in _WITHOUT_GTOL and problem.slope(x, grad) <= TOLERANCE:
                end = np.array(x)
                raise _Ended
            return float(value), np.array(grad)

        def callback(x, *_):
            nonlocal end
            end = np.array(x)
            if method == "Newton-CG" and np.abs(both(x)[1]).max() <= TOLERANCE:
                raise StopIteration

        # trust-exact raises where the Hessian is not finite
        with contextlib.suppress(_Ended, ValueError, np.linalg.LinAlgError):
            end = scipy_minimize(
                evaluate,
                problem.start,
                jac=True,
                method=method,
                options=options,
                callback=callback,
                **more,
            ).x
        return end, count

    return run


_SECOND_ORDER = ("Newton-CG", "trust-exact")
_WITHOUT_GTOL = ("TNC", "trust-constr")  # theirs is another: they end at the first good point


def run_optimistix(problem: Problem) -> Callable[[], tuple[np.ndarray, int]]:
    import optimistix

    solver = optimistix.BFGS(rtol=1e-10, atol=1e-10)  # it stops by steps, not by gradients
    solve = jax.jit(
        lambda y: optimistix.minimise(
            lambda y, _: problem.fun(y), solver, y, max_steps=MAX_EVALUATIONS, throw=False
        )
    )

    def run():
        solution = solve(jnp.asarray(problem.start))
        return np.asarray(solution.value), int(solution.stats["num_steps"])

    return run


def rows(names: list[str]) -> Iterator[Row]:
    for name, problem in load(names).items():
        runs = {solver: run_ours(problem, optimizer) for solver, optimizer in OURS.items()}
        options = {"maxiter": MAX_STEPS}
        runs |= {name: run_scipy(problem, name, options | given) for name, given in SCIPY.items()}
        with contextlib.suppress(ImportError):
            runs["optimistix BFGS"] = run_optimistix(problem)
        yield from rows_of(name, problem, runs)


def rows_of(name: str, problem: Problem, runs: dict[str, Callable]) -> Iterator[Row]:
    """Time the second run of each solver, and look at where it ends."""
    both = jax.jit(jax.value_and_grad(problem.fun))
    for solver, run in runs.items():
        run()
        start = time.perf_counter()
        end, evaluations = run()
        seconds = time.perf_counter() - start
        value, grad = both(end)
        outcome = float(value), problem.slope(end, grad), evaluations
        yield Row(name, end.size, solver, *outcome, seconds, problem.is_solved(*outcome))
    # a thousand programs kept alive exceed the memory maps that Linux allows a process
    jax.clear_caches()


def data_profile(found: list[Row], budgets: np.ndarray) -> np.ndarray:
    """Return the share of problems solved within each budget of evaluations per (n + 1)."""
    spent = [row.evaluations / (row.num_unknowns + 1) for row in found if row.is_solved]
    return np.array([np.sum(np.array(spent) <= budget) for budget in budgets]) / len(found)


def draw(by_solver: dict[str, list[Row]], path: Path) -> None:
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).add_subplot()
    budgets = np.geomspace(0.5, MAX_EVALUATIONS, 400)
    for solver, found in by_solver.items():
        is_ours = solver.isidentifier() and solver.islower()
        style = "-" if is_ours else "--"
        axes.step(budgets, data_profile(found, budgets), style, where="post", label=solver)
    axes.set(xscale="log", ylim=(0, 1), xlabel="evaluations / (n + 1)", ylabel="problems solved")
    axes.legend(fontsize="small")
    figure.savefig(path)


def report(found: Iterator[Row], title: str, table: dict[str, float], name: str) -> None:
    """Write rows as they come, then print how many problems each solver solved."""
    RESULTS.mkdir(exist_ok=True)
    by_solver: dict[str, list[Row]] = {}
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for row in found:
            by_solver.setdefault(row.solver, []).append(row)
            writer.writerow(row)
            file.flush()  # half an hour's rows are not lost with the process
    print_table(
        title,
        ["solver", "solved", "evaluations", "seconds"],
        [
            [
                solver,
                sum(row.is_solved for row in mine),
                sum(row.evaluations for row in mine),
                sum(row.seconds for row in mine),
            ]
            for solver, mine in by_solver.items()
        ],
    )
    for solver, mine in by_solver.items():
        print(f"{solver} misses", *(row.problem for row in mine if not row.is_solved))
    for row in (row for mine in by_solver.values() for row in mine):
        gap = table[row.problem] - row.value
        if gap > TOLERANCE * max(1.0, abs(table[row.problem])):
            print(f"{row.solver} went below the table on {row.problem}: {row.value!r}")
    draw(by_solver, RESULTS / f"{name}_profiles.svg")


def main(*, quick: bool = False) -> None:
    names = list(best_values())[:: 10 if quick else 1]
    title = f"{len(names)} problems of CUTEst with up to 10 unknowns, float64"
    with jax.enable_x64(True):
        report(rows(names), title, best_values(), "sif")
