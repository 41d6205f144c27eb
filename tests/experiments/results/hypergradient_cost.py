"""Results of `hypergradient_cost`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import hypergradient_cost as cost
from experiments.bilevel.hypergradient_cost import COUNTS, FLAT, UNROLLED


def results():
    steps = np.array(COUNTS)
    growing = {name: mode.levels for name, mode in UNROLLED.items()}
    # a constant, and one and a half sizes a checkpoint
    kept = {
        name: 10 + 1.5 * max(levels, 1) * steps ** (1 / max(levels, 1))
        for name, levels in growing.items()
    }
    flat = dict.fromkeys(FLAT, np.full(2, 5.0))
    yield cost.Result(kept | flat, {})
    # As if nothing saved memory, and each checkpoint held more than it must.
    yield cost.Result(
        dict.fromkeys(UNROLLED, 10.0 * steps**1.1) | dict.fromkeys(FLAT, steps[[0, -1]]), {}
    )
