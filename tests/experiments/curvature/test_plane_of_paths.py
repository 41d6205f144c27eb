"""What `plane_of_paths` measures, at small size."""

import numpy as np

from experiments.curvature import plane_of_paths as paths


def test_a_quick_run_has_a_loss_met_and_one_shown_for_each_point():
    config = paths.Config().quick()
    result = paths.run(config)
    assert result.explained.shape == (2, 2)
    for name in paths.OPTIMIZERS:
        assert result.met[name].shape == result.shown[name].shape == (2, 3)
        np.testing.assert_array_equal(result.met[name][:, 0], result.met["SGD"][:, 0])
    assert np.all(result.explained.sum(axis=1) <= 1 + 1e-6)
    assert set(paths.plot(result)) == {"plane"}
