"""Results of `circling_game`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import circling_game as circling
from experiments.bilevel.circling_game import (
    EXTRA,
    FIRST_ORDER,
    IN_TURNS,
    NEWTON,
    OPTIMISTIC,
    SINGULAR_VALUES,
    TOGETHER,
)

RATE, NUM_STEPS = 0.4, 200


def results():
    t = np.arange(NUM_STEPS + 1)[:, None]
    spiral = lambda factors: np.sqrt(2) * np.stack([factors**t, 0 * t * factors], axis=1)
    pairs = {name: spiral(factors) for name, factors in circling.laws(RATE).items()}
    turning = [np.array([np.ones(2), np.ones(2)])]
    for _ in range(NUM_STEPS):
        a, b = turning[-1]
        a = a - RATE * SINGULAR_VALUES * b
        turning.append(np.stack([a, b + RATE * SINGULAR_VALUES * a]))
    pairs[IN_TURNS] = np.stack(turning)
    good = circling.Result(
        rate=RATE,
        pairs=pairs,
        newton_distance=1e-16,
        residuals=dict.fromkeys(FIRST_ORDER, 0.9 ** np.arange(401)) | {NEWTON: np.array([1, 0.0])},
        saddle_error=1e-10,
        value_error=1e-15,
        envelope_error=1e-11,
    )
    yield good
    # As if descent-ascent arrived, and what looks ahead did not.
    swapped = {TOGETHER: spiral(0.9 * np.ones(2)), IN_TURNS: pairs[OPTIMISTIC]}
    yield good._replace(
        pairs=swapped | dict.fromkeys([EXTRA, OPTIMISTIC], pairs[TOGETHER]),
        newton_distance=0.5,
        residuals=good.residuals | {NEWTON: 0.9 ** np.arange(401)},
        saddle_error=0.1,
        value_error=0.1,
        envelope_error=0.1,
    )
