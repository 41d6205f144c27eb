"""What `minima_of_optimizers` measures, at small size."""

import dataclasses

import numpy as np
import pytest

from experiments.curvature import minima_of_optimizers as minima
from experiments.curvature._networks import Setting, trained


@pytest.mark.slow
def test_every_optimizer_is_measured_from_each_start():
    config = dataclasses.replace(minima.Config().quick(), num_seeds=1)
    result = minima.run(config)
    assert result.start.shape == (1,)
    assert list(result.end) == ["SGD", "momentum", "Adam"]
    for values in (*result.end.values(), *result.loss.values()):
        assert values.shape == (1,)
        assert np.isfinite(values).all()
    # once in a process
    setting = Setting(config.data, config.block, config.hidden, 256, 2)
    assert trained(setting, "SGD", 0) is trained(setting, "SGD", 0)
    assert set(minima.plot(result)) == {"sharpness"}
