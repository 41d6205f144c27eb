"""Results of `bound_sensitivity`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import bound_sensitivity as sensitivity


def results():
    bounds = sensitivity.KINK + np.linspace(-1, 1, 21)
    law = sensitivity.swept_by_formula(bounds)
    multipliers = np.array([0.5, 0.0, 2.0])
    good = sensitivity.Result(
        multipliers=multipliers,
        slopes=-multipliers,
        differences=-multipliers,
        condition=10.0,
        bounds=bounds,
        values=np.zeros(21),
        solutions=law["solutions"],
        value_slopes=-law["multipliers"],
        solution_slopes=law["solution_slopes"],
    )
    yield good
    # As if a bound were felt where it does not hold, the value had a corner, the solution none.
    yield good._replace(
        slopes=-multipliers - 0.1,
        differences=-multipliers - 0.1,
        value_slopes=np.ones(21),
        solution_slopes=np.full((21, 2), 2.0),
    )
    yield good._replace(multipliers=np.zeros(3) + 1)
