"""The claims hold on a good result, and each can fail; Chebyshev's rates are the best there."""

import jax
import numpy as np
import pytest

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


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = sizes.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in sizes.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


def test_no_rates_are_better_than_those_of_chebyshev_where_they_are_said_to_be_best():
    curvatures = CURVATURES[FILLED]
    best = sizes.loss_of(CHEBYSHEV, curvatures)
    for step in range(4):
        for factor in (0.999, 1.001):
            moved = CHEBYSHEV * np.where(np.arange(4) == step, factor, 1.0)
            assert sizes.loss_of(moved, curvatures) > best


@pytest.mark.slow
def test_the_claims_hold_when_run():
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix dtypes
        claims = sizes.check(sizes.run(sizes.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
