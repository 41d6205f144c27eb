import math

import numpy as np
import pytest

from experiments.training.how_many_seeds import Config, first_with, run


def test_the_power_is_reached_for_good_between_the_seeds_tried():
    seeds = np.array([4, 8, 12, 16])
    assert first_with(np.array([0.9, 0.6, 1.0, 1.0]), seeds) == 10.0
    assert first_with(np.array([0.9, 0.9, 0.9, 0.9]), seeds) == 4.0
    assert first_with(np.array([0.9, 0.9, 0.9, 0.7]), seeds) == math.inf


@pytest.mark.slow
def test_a_quick_run_finds_nothing_with_five_seeds():
    result = run(Config().quick())
    assert result.alone[:, 0].max() == 0
    assert result.alone[-1, 1] > 0.5
    assert result.among[:, :3].max() == 0
    assert result.paired < result.unpaired
