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
    # a quick machine may be past the next of these steps before it is killed, but not before one
    assert np.all(result.killed_at >= [21, 100, 227])
    # the arm of weights alone goes its own way from the first step after its first loss
    assert np.array_equal(result.weights_alone[:60], result.losses[:60])
    assert np.all(result.weights_alone[60:] != result.losses[60:])
