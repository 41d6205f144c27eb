"""The common target: what the optimizer in the middle reaches in three quarters of the steps."""

import numpy as np

from jaxopt_tut.training.races.targets import common_target


def test_is_the_median_over_optimizers_of_the_best_rate_s_median():
    losses = np.full((3, 2, 3, 4), 9.0)
    for k, reached in enumerate((1.0, 2.0, 5.0)):
        losses[k, 1, :, 2] = reached - 0.5, reached, reached + 0.1  # three seeds
    losses[..., 3] = 0.0  # behind three quarters
    assert common_target(losses) == 2.0


def test_the_lowest_loss_until_then_counts_not_the_last():
    losses = np.broadcast_to([3.0, 1.0, 2.0, 2.0], (1, 1, 2, 4))
    assert common_target(losses) == 1.0


def test_an_optimizer_that_diverges_everywhere_leaves_the_middle_to_the_others():
    losses = np.full((2, 2, 3, 4), np.inf)
    losses[0] = 1.0
    assert common_target(losses) == 1.0


def test_where_all_diverge_nothing_reaches_the_target():
    assert common_target(np.full((2, 2, 3, 4), np.inf)) == -np.inf


def test_losses_near_the_largest_of_float32_have_a_median():
    losses = np.full((1, 1, 2, 4), 3e38, np.float32)
    np.testing.assert_allclose(common_target(losses), 3e38, rtol=1e-6)
