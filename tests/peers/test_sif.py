"""Minimisers on problems that nobody here wrote: CUTEst's, from `sif2jax`.

`python -m benchmarks sif` runs all of them, beside other libraries' solvers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers import bfgs, lbfgs, minimize, newton, newton_cg, trust_region
from tests.peers.sif_problems import MAX_STEPS, TOLERANCE, best_values, load

# Curved valleys, bumps, flat and singular minima, and nonlinear least squares whose curvatures
# differ by up to 16 orders of magnitude.
NAMES = {
    2: [
        *("BEALE", "BROWNBS", "CLIFF", "CUBE", "HAIRY", "JENSMP"),
        *("MEXHAT", "MISRA1BLS", "MISRA1DLS", "ROSENBR", "SNAIL", "WAYSEA2"),
    ],
    3: ["BARD", "BOX3", "DENSCHND", "ENGVAL2", "HATFLDE", "HATFLDFLS", "HELIX", "LSC1LS"],
}


@functools.cache
def problems_of(num_unknowns):
    return load(NAMES[num_unknowns])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", [bfgs, lbfgs, newton, newton_cg, trust_region])
@pytest.mark.parametrize("num_unknowns", NAMES)
def test_reaches_the_best_known_value(num_unknowns, make):
    problems = problems_of(num_unknowns)
    functions = [problem.fun for problem in problems.values()]

    def fun(y, which):  # one program for all
        return jax.lax.switch(which, functions, y)

    missed = {}
    for which, (name, problem) in enumerate(problems.items()):
        start = jnp.asarray(problem.start)
        solution = minimize(
            fun, start, make(), np.int32(which), max_steps=MAX_STEPS, gtol=TOLERANCE
        )
        end = float(solution.value), float(solution.grad_norm), int(solution.evaluations)
        if not problem.is_solved(*end):
            missed[name] = *end, solution.message
    assert not missed


def test_the_table_lists_every_problem_of_the_protocol():
    table = best_values()
    assert len(table) == 102
    assert all(np.isfinite(value) for value in table.values())


@pytest.mark.usefixtures("x64")
def test_an_end_at_another_minimum_or_on_a_slope_does_not_count():
    (problem,) = load(["CLIFF"]).values()
    best = problem.best_value
    assert problem.is_solved(best, 0.0, 100)
    assert not problem.is_solved(best + 2e-6, 0.0, 100)
    assert not problem.is_solved(best, 2e-6 * max(1.0, problem.first_slope), 100)
    assert not problem.is_solved(best, 0.0, 10_001)
