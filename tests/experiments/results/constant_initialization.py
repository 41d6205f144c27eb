"""Results of `constant_initialization`: one as it should be, then falsified ones."""

from itertools import pairwise

import numpy as np

from experiments.initialization import constant_initialization as constant


def results():
    rng = np.random.default_rng(0)
    shapes = list(pairwise(constant.SIZES))
    sums = np.cumprod([1.0, *(0.005 * width for width in constant.SIZES[1:-1])])
    base = rng.standard_normal(64)
    copies = [
        np.tile(rng.standard_normal((784, 1)), 512),
        *(np.full(shape, 1e-12) for shape in shapes[1:-1]),
        np.tile(np.arange(1.0, 11.0), (128, 1)),
    ]
    yield constant.Result([], [base * scale for scale in sums], copies)
    loose = [rng.standard_normal(shape) for shape in shapes]
    yield constant.Result([], [base for _ in sums], loose)
    yield constant.Result([], [base for _ in sums], [np.ones(shape) for shape in shapes])
