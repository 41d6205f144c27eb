import numpy as np

from jaxopt_tut.training.races.bootstrap import interval_around, resample_seeds


def test_optimizers_share_the_seeds_that_are_drawn():
    times = np.random.default_rng(0).uniform(1, 2, (1, 3, 7))
    drawn = resample_seeds(np.concatenate([times, 2 * times]), 50, np.random.default_rng(1))
    np.testing.assert_allclose(drawn[:, 1], 2 * drawn[:, 0])
    assert drawn.shape == (50, 2, 3)


def test_seeds_stay_in_their_problem_unless_problems_are_drawn():
    times = np.broadcast_to(np.arange(3.0)[:, None], (1, 3, 4)).copy()
    rng = np.random.default_rng(2)
    np.testing.assert_array_equal(resample_seeds(times, 5, rng), np.tile(np.arange(3.0), (5, 1, 1)))
    drawn = resample_seeds(times, 3000, rng, problems=True)
    # each problem a third of the time; standard error sqrt(2/9 / 9000) = .005
    np.testing.assert_allclose([np.mean(drawn == p) for p in range(3)], 1 / 3, atol=0.02)


def test_intervals_stay_between_0_and_1_and_of_one_seed_nothing_is_known():
    estimates, draws = np.array([0.0, 0.5, 1.0]), np.random.default_rng(3).normal(size=(500, 3))
    low, high = interval_around(estimates, draws, 5, 0.95)
    np.testing.assert_array_equal([low, high], [[0, 0, 0], [1, 1, 1]])
    low, high = interval_around(estimates, 0 * draws, 1, 0.95)
    np.testing.assert_array_equal([low, high], [[0, 0, 0], [1, 1, 1]])
    low, high = interval_around(estimates, 0 * draws, 2, 0.95)
    np.testing.assert_array_equal([low, high], [estimates, estimates])
