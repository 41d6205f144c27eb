"""A quick run has a line a network, which is the batch's where averages are re-estimated."""

import pytest

from experiments.curvature import slices_with_batch_norm as slices


@pytest.mark.slow  # compiles the training
def test_a_quick_run_agrees_with_normalisation_by_the_batch():
    config = slices.Config().quick()
    result = slices.run(config)
    assert result.losses["frozen"].shape == (config.num_seeds, config.num_points)
    assert slices.check(result)[-1].holds
    assert list(slices.plot(result)) == ["slices"]
