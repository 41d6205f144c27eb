"""MetaInit's quotient against its definition."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import metainit
from jaxopt_tut.models import mlp

pytestmark = pytest.mark.slow

X = jax.random.normal(jax.random.key(5), (16, 4))
PARAMS = jax.tree.map(lambda leaf: 4 * leaf, mlp.init(jax.random.key(0), (4, 6, 2)))


def loss_fn(params, x):
    return jnp.mean((mlp.apply(params, x, jnp.tanh) - 0.5) ** 2)


def directions(params):
    return [layer["kernel"] / jnp.linalg.norm(layer["kernel"]) for layer in params]


def test_the_objective_of_metainit_is_the_quotient_by_the_full_hessian():
    _, report = metainit(jax.random.key(0), loss_fn, PARAMS, X, num_steps=1)
    flat, back = jax.flatten_util.ravel_pytree(PARAMS)
    slope = jax.grad(lambda flat: loss_fn(back(flat), X))(flat)
    curvature = jax.hessian(lambda flat: loss_fn(back(flat), X))(flat)
    sign = jnp.where(slope >= 0, 1.0, -1.0)
    quotient = jnp.mean(jnp.abs((slope - curvature @ slope) / (slope + 1e-5 * sign) - 1))
    # Rounding of Hg is divided by gradients that may be a hundredth of the largest.
    np.testing.assert_allclose(report.objective[0], quotient, rtol=1e-3)


def test_metainit_returns_the_smallest_quotient_and_keeps_directions():
    params, report = metainit(jax.random.key(0), loss_fn, PARAMS, X, num_steps=30)
    _, again = metainit(jax.random.key(0), loss_fn, params, X, num_steps=1)
    np.testing.assert_allclose(again.objective[0], report.objective.min(), rtol=1e-3)
    assert report.objective.min() < report.objective[0]
    for ours, theirs in zip(directions(params), directions(PARAMS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"metainit needs 0 <= decay < 1, got decay=1\."):
        metainit(jax.random.key(0), loss_fn, PARAMS, X, decay=1.0)
