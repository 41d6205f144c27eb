"""Chebyshev's rates are the best there, and a quick run passes."""

import jax
import numpy as np
import pytest

from experiments.bilevel import learned_step_sizes as sizes
from experiments.bilevel.learned_step_sizes import FILLED
from tests.experiments.results.learned_step_sizes import CHEBYSHEV, CURVATURES


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
