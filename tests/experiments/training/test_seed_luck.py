import numpy as np
import pytest

from experiments.training.seed_luck import Config, hand_out, judge, run


def test_each_seed_is_judged_by_a_rate_that_other_seeds_chose():
    # each seed has its own best rate, so that whoever looks at it finds the time 0
    entry = np.ones((1, 1, 10, 10)) - np.eye(10)
    times, seeds = judge(entry, None)
    assert (times.sum(), len(seeds)) == (9, 10)
    for folds in (2, 5, 10):
        times, seeds = judge(entry, folds)
        assert times.shape == (1, 1, 10)
        assert seeds.tolist() == list(range(10))
        assert times.sum() == 10
    times, seeds = judge(entry, 0)
    assert times.shape == (1, 1, 5)
    assert seeds.tolist() == [5, 6, 7, 8, 9]


def test_problems_take_turns_with_the_runs():
    times = np.array([[1.0, 1.0], [2.0, 2.0]])
    drawn = hand_out(np.random.default_rng(0), times, 3, 4)
    assert drawn.shape == (3, 6, 4, 10)
    np.testing.assert_array_equal(drawn[:, :, 0, 0], [[1, 2, 1, 2, 1, 2]] * 3)


@pytest.mark.slow
def test_a_quick_run_finds_luck_on_the_same_seeds():
    result = run(Config().quick())
    assert np.mean(result.p_values["the same seeds"] <= 0.05) > 0.5
    assert np.mean(result.p_values["half and half"] <= 0.05) < 0.2
