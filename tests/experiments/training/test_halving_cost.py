"""Helpers of `halving_cost`."""

import numpy as np

from experiments.training import halving_cost


def test_the_price_is_that_of_the_pick():
    rungs = len(halving_cost.RUNGS)
    losses = np.tile(np.arange(1.0, 17.0)[:, None, None], (1, 2, rungs))
    np.testing.assert_array_equal(halving_cost.prices(losses), [1.0, 1.0])
    losses[0, 1, 0] = 100.0  # out after the first rung
    np.testing.assert_array_equal(halving_cost.prices(losses), [1.0, 2.0])
    assert [len(kept) for kept in halving_cost.picked(losses[:, 0])] == [16, 8, 4, 2, 1]
