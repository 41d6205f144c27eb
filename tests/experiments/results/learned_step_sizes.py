"""Results of `learned_step_sizes`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import learned_step_sizes as sizes
from experiments.bilevel.learned_step_sizes import CONSTANT, FILLED, GROUPS

CURVATURES = {FILLED: sizes.chebyshev_roots(24), GROUPS: np.array([1.0, 2.0, 19.0, 20.0])}
CHEBYSHEV = 1 / sizes.chebyshev_roots(4)


def result_of(rates):
    ends = {name: sizes.loss_of(rates[name], lam) for name, lam in CURVATURES.items()}
    best = {FILLED: sizes.loss_of(CHEBYSHEV, CURVATURES[FILLED]), GROUPS: 1e-6}
    return sizes.Result(
        CURVATURES,
        {name: np.stack([row, row[::-1]]) for name, row in rates.items()},
        # one inverse curvature a step leaves nothing but what is put here for rounding
        {name: np.full((2, 1), max(end, 1e-6)) for name, end in ends.items()},
        best,
    )


def results():
    yield result_of({FILLED: CHEBYSHEV, GROUPS: 1 / CURVATURES[GROUPS]})
    # As if nothing had been learned.
    yield result_of(dict.fromkeys(CURVATURES, np.full(4, CONSTANT)))
