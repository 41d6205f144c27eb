"""What MetaInit and GradInit, both a descent on factors, have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import gradinit, metainit
from jaxopt_tut.models import mlp

pytestmark = pytest.mark.slow

X = jax.random.normal(jax.random.key(5), (16, 4))
PARAMS = jax.tree.map(lambda leaf: 4 * leaf, mlp.init(jax.random.key(0), (4, 6, 2)))
METHODS = pytest.mark.parametrize("method", [metainit, gradinit], ids=["metainit", "gradinit"])


def loss_fn(params, x):
    return jnp.mean((mlp.apply(params, x, jnp.tanh) - 0.5) ** 2)


@METHODS
def test_reports_compare_before_and_after(method):
    params, report = method(jax.random.key(0), loss_fn, PARAMS, X, num_steps=5)
    for fields, which in ((PARAMS, "before"), (params, "after")):
        z = mlp.apply(fields, X, jnp.tanh, return_pre_activations=True)[1]
        for layer, value in zip(report.layers.values(), z, strict=True):
            np.testing.assert_allclose(getattr(layer, which), value.var(), rtol=1e-4)
    assert report.objective.shape == (5,)
    assert dict(report.how) == {"0/kernel": "learned", "1/kernel": "learned"}


@METHODS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps >= 1, got num_steps=0"),
        ({"learning_rate": -1.0}, "finite learning_rate >= 0, got learning_rate=-1.0"),
    ],
    ids=["steps", "rate"],
)
def test_options_out_of_range_are_refused(method, options, message):
    with pytest.raises(ValueError, match=f"{method.__name__} needs .*{message}"):
        method(jax.random.key(0), loss_fn, PARAMS, X, **options)
