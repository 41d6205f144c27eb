"""A quick run finds every eigenvalue, and with a norm the scale of kernels is no matter."""

import jax
import numpy as np
import pytest

from experiments.curvature import batch_norm_at_scale as scale


def test_a_norm_undoes_the_scale_of_kernels():
    batch = scale.images(scale.Config().quick())
    params = scale.init(jax.random.key(0), (3, 4))
    larger = [{**layer, "kernel": 3 * layer["kernel"]} for layer in params[:-1]] + params[-1:]
    change = {
        model: abs(float(loss(larger, batch) / loss(params, batch)) - 1)
        for model, loss in scale.LOSSES.items()
    }
    # 1e-5 beside variances of a tenth or more
    assert change["BatchNorm"] < 1e-3 < change["plain"]


@pytest.mark.slow  # compiles two Hessians
def test_a_quick_run_finds_every_eigenvalue():
    config = scale.Config().quick()
    result = scale.run(config)
    assert result.converged == 1.0
    assert all(np.all(of["start"] > 0) for of in result.eigenvalues.values())
    assert list(scale.plot(result)) == ["curvature"]
