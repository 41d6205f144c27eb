"""Least-squares solvers on NIST's 27 nonlinear-regression problems, from both published starts.

OPENBLAS_NUM_THREADS=1 python -m benchmarks nist

Digits are those of the worst parameter that agree with the certified ones, 11 at most. SciPy's and
optimistix' solvers get exact Jacobians from JAX and tolerances of 1e-10, and all get 2000 steps;
ours runs as it comes. Evaluations are of the residuals; for optimistix, steps. Times are the least
of three runs after one that compiles, interleaved, SciPy's with its calls of compiled functions.
`--quick` takes every third problem. A minute or two.
"""

import math
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from scipy.optimize import least_squares

from benchmarks.measure import print_table
from jaxopt_tut.optimizers import levenberg_marquardt, minimize
from tests.peers.nist_problems import Fit, load

MAX_STEPS, TOLERANCE, ROUNDS = 2000, 1e-10, 3
ENOUGH, FEW = 6, 3  # digits


class End(NamedTuple):
    """Where a solver ended."""

    params: np.ndarray
    claims: bool  # to have converged
    evaluations: int


def ours(fit: Fit) -> Callable[[np.ndarray], End]:
    # functions of their own: a method of arrays, which cannot be compared, would compile anew
    half_squares = lambda b: fit.half_squares(b)
    residuals = lambda b: fit.residuals(b)

    def run(start: np.ndarray) -> End:
        solution = minimize(
            half_squares,
            start,
            levenberg_marquardt(),
            residual_fn=residuals,
            max_steps=MAX_STEPS,
        )
        converged, steps = bool(solution.converged), int(solution.steps)
        return End(np.asarray(solution.params), converged, steps + 1)

    return run


def scipys(fit: Fit, method: str) -> Callable[[np.ndarray], End]:
    residuals, jacobian = jax.jit(fit.residuals), jax.jit(jax.jacfwd(fit.residuals))
    options: dict[str, Any] = {"jac": lambda b: np.asarray(jacobian(b)), "method": method}
    options |= dict.fromkeys(("xtol", "ftol", "gtol"), TOLERANCE)

    def run(start: np.ndarray) -> End:
        try:
            found = least_squares(
                lambda b: np.asarray(residuals(b)),
                start,
                max_nfev=MAX_STEPS,
                **options,
            )
        except ValueError:  # what is not finite
            return End(start, False, 0)
        return End(found.x, found.success, found.nfev)

    return run


def optimistixs(fit: Fit) -> Callable[[np.ndarray], End]:
    solver = optimistix.LevenbergMarquardt(rtol=TOLERANCE, atol=TOLERANCE)

    @jax.jit
    def solve(start):
        solution = optimistix.least_squares(
            lambda b, _: fit.residuals(b), solver, start, max_steps=MAX_STEPS, throw=False
        )
        is_good = solution.result == optimistix.RESULTS.successful
        return solution.value, is_good, solution.stats["num_steps"]

    def run(start: np.ndarray) -> End:
        params, claims, steps = solve(jnp.asarray(start))
        return End(np.asarray(params), bool(claims), int(steps))

    return run


def solvers(fit: Fit) -> dict[str, Callable[[np.ndarray], End]]:
    return {
        "ours": ours(fit),
        "scipy lm": scipys(fit, "lm"),
        "scipy trf": scipys(fit, "trf"),
        "optimistix": optimistixs(fit),
    }


def measured(runs: dict[str, Callable[[np.ndarray], End]], start: np.ndarray) -> dict[str, tuple]:
    """Return the end and the least time of each solver."""
    ends = {name: run(start) for name, run in runs.items()}
    seconds = dict.fromkeys(runs, math.inf)
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(start)
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return {name: (ends[name], seconds[name]) for name in runs}


def main(quick: bool = False) -> None:
    """Print digits, evaluations and times of all fits, and what they come to."""
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's functions overflow from the far starts
        fits = load()
        chosen = list(fits)[:: 3 if quick else 1]
        results = {}
        for name in chosen:
            runs = solvers(fits[name])
            for place, start in zip(("far", "near"), fits[name].starts, strict=True):
                results[name, place] = measured(runs, start)
    names = list(next(iter(results.values())))
    digits = {
        key: {n: fits[key[0]].digits(end.params) for n, (end, _) in row.items()}
        for key, row in results.items()
    }
    print_table(
        "NIST StRD, nonlinear regression: right digits / evaluations / ms (! claims to converge "
        f"with fewer than {FEW})",
        ["fit", *names],
        [
            [" ".join(key), *(_cell(digits[key][n], *row[n]) for n in names)]
            for key, row in results.items()
        ],
    )
    print_table(
        f"Of {len(results)} fits",
        [
            *("solver", f"{ENOUGH} digits or more", "median digits", "false claims"),
            *("evaluations, median", "time beside ours, median"),
        ],
        [
            [
                n,
                sum(row[n] >= ENOUGH for row in digits.values()),
                float(statistics.median(row[n] for row in digits.values())),
                sum(results[k][n][0].claims and digits[k][n] < FEW for k in results),
                statistics.median(row[n][0].evaluations for row in results.values()),
                float(statistics.median(row[n][1] / row["ours"][1] for row in results.values())),
            ]
            for n in names
        ],
    )


def _cell(digits: float, end: End, seconds: float) -> str:
    claim = "!" if end.claims and digits < FEW else ""
    return f"{digits:.1f}{claim} / {end.evaluations} / {1e3 * seconds:.2g}"
