"""Results of `finite_differences`: one as it should be, then falsified ones."""

import numpy as np

from experiments.autodiff import finite_differences as differences
from experiments.autodiff.finite_differences import CENTRAL, COMPLEX, DTYPES, FORWARD


def results():
    steps = 2.0 ** -np.arange(1, 61)
    errors, best, exact = {}, {}, {}
    for dtype in DTYPES:
        eps = float(np.finfo(dtype).eps)
        errors[dtype] = {
            FORWARD: steps + eps / steps,
            CENTRAL: steps**2 + eps / steps,
            COMPLEX: steps**2 + eps / 3,
        }
        best[dtype] = {FORWARD: eps ** (1 / 2), CENTRAL: (eps / 2) ** (1 / 3)}
        exact[dtype] = eps / 3
    good = differences.Result(steps, errors, exact, best)
    yield good
    # Each method one order worse, with rounding that grows like 1 / h^2 as in second differences.
    worse = {
        dtype: {
            FORWARD: np.sqrt(steps) + 1e-5 / steps**2,
            CENTRAL: steps + 1e-5 / steps**2,
            COMPLEX: steps + 1e-3,
        }
        for dtype in DTYPES
    }
    yield differences.Result(steps, worse, dict.fromkeys(DTYPES, 1e-3), best)
