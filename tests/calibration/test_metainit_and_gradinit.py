"""MetaInit's quotient against its definition, GradInit against what it promises."""

import jax
import jax.flatten_util
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


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_gradinit_keeps_its_constraint_and_lowers_the_loss_after_a_step(optimizer):
    options = {"step_size": 0.1, "gradient_norm": 1.0} if optimizer == "sgd" else {
        "step_size": 1e-2, "gradient_norm": 2.0,
    }  # fmt: skip

    def norm(params):
        flat = jax.flatten_util.ravel_pytree(jax.grad(loss_fn)(params, X))[0]
        return jnp.linalg.norm(flat, 2 if optimizer == "sgd" else 1)

    def after_a_step(params):
        gradient = jax.grad(loss_fn)(params, X)
        step = (lambda g: g) if optimizer == "sgd" else jnp.sign
        moved = jax.tree.map(lambda w, g: w - options["step_size"] * step(g), params, gradient)
        return loss_fn(moved, X)

    params, _ = gradinit(
        jax.random.key(0), loss_fn, PARAMS, X,
        optimizer=optimizer, learning_rate=0.1, num_steps=60, **options,
    )  # fmt: skip
    assert norm(params) <= options["gradient_norm"] * (1 + 1e-5)
    assert after_a_step(params) < after_a_step(PARAMS)
    for ours, theirs in zip(directions(params), directions(PARAMS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


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


def test_options_of_one_method_are_checked_too():
    with pytest.raises(ValueError, match=r"metainit needs 0 <= decay < 1, got decay=1\."):
        metainit(jax.random.key(0), loss_fn, PARAMS, X, decay=1.0)
    with pytest.raises(ValueError, match=r"gradinit needs optimizer 'sgd' or 'adam', got .*'lion'"):
        gradinit(jax.random.key(0), loss_fn, PARAMS, X, optimizer="lion")
