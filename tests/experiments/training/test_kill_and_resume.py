import numpy as np
import pytest

from experiments.training.kill_and_resume import Config, different_bits, run


def test_bits_that_differ_are_counted():
    one = {"a": np.array([1.0, -0.0]), "b": np.array([7], np.uint8)}
    assert different_bits(one, one) == 0
    assert different_bits(one, {"a": np.array([1.0, 0.0]), "b": np.array([4], np.uint8)}) == 3


@pytest.mark.slow
def test_a_quick_run_is_killed_three_times_and_the_same():
    result = run(Config().quick())
    assert result.kills == len(result.lost) == 3
    assert result.bits == 0
    np.testing.assert_array_equal(result.losses, result.resumed)
    assert np.all(np.diff(result.killed_at) > 0)
