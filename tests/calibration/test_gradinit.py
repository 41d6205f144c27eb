"""GradInit against what it promises."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.calibration import gradinit
from jaxopt_tut.models import mlp

X = jax.random.normal(jax.random.key(5), (16, 4))
PARAMS = jax.tree.map(lambda leaf: 4 * leaf, mlp.init(jax.random.key(0), (4, 6, 2)))
KEY = jax.random.key(0)


def loss_fn(params, x):
    return jnp.mean((mlp.apply(params, x, jnp.tanh) - 0.5) ** 2)


def directions(params):
    return [layer["kernel"] / jnp.linalg.norm(layer["kernel"]) for layer in params]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "transformation"),
    [
        ("sgd", optimizers.sgd(0.05)),
        ("sgd", optax.sgd(0.05)),
        ("adam", optimizers.adam(0.05, eps=1e-12)),
        ("adam", optax.sign_sgd(0.05)),
    ],
    ids=["sgd", "optax-sgd", "adam", "signs"],
)
def test_a_transformation_is_trained_with_as_its_name_is(name, transformation):
    options = {"gradient_norm": 2.0, "learning_rate": 0.1, "num_steps": 20}
    ours, report = gradinit(KEY, loss_fn, PARAMS, X, optimizer=transformation, **options)
    named, expected = gradinit(KEY, loss_fn, PARAMS, X, optimizer=name, step_size=0.05, **options)
    # Twenty steps of Adam on the factors, each with the rounding of single precision.
    np.testing.assert_allclose(report.objective, expected.objective, rtol=1e-4)
    for leaf, other in zip(jax.tree.leaves(ours), jax.tree.leaves(named), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-6)
    assert report.converged


@pytest.mark.slow
def test_a_transformation_is_told_the_tree_of_the_parameters():
    seen = []

    def update(updates, state, params=None):
        seen.append((jax.tree.structure(updates), jax.tree.structure(params)))
        return jax.tree.map(lambda u: -0.1 * u, updates), state

    optimizer = optax.GradientTransformation(lambda _: optax.EmptyState(), update)
    params = {"w": jnp.ones((4, 2)), "act": jnp.tanh, "b": jnp.zeros(2)}
    fun = lambda p, x: jnp.mean(p["act"](x @ p["w"] + p["b"] - 1) ** 2)
    fitted, _ = gradinit(KEY, fun, params, X, optimizer=optimizer, num_steps=2)
    tree = jax.tree.structure({"w": 0, "act": None, "b": 0})
    assert set(seen) == {(tree, tree)}
    assert fitted["act"] is jnp.tanh


def test_other_optimizers_are_refused():
    with pytest.raises(
        ValueError, match=r"^gradinit needs optimizer 'sgd' or 'adam', got .*'lion'"
    ):
        gradinit(KEY, loss_fn, PARAMS, X, optimizer="lion")
    with pytest.raises(
        TypeError, match=r"^gradinit needs an optax transformation .* adam\(\.\.\.\)"
    ):
        gradinit(KEY, loss_fn, PARAMS, X, optimizer=optax.adam)
    with pytest.raises(
        ValueError, match=r"^gradinit needs step_size=None .*, got step_size=0\.1\.$"
    ):
        gradinit(KEY, loss_fn, PARAMS, X, optimizer=optax.adam(0.1), step_size=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [optax.lbfgs(), optimizers.bfgs()], ids=["zoom", "wolfe"])
def test_a_step_without_a_derivative_is_refused(optimizer):
    with pytest.raises(TypeError, match=r"^gradinit needs an optimizer whose step can be differ"):
        gradinit(KEY, loss_fn, PARAMS, X, optimizer=optimizer, num_steps=1)


@pytest.mark.slow
def test_complex_weights_descend():
    # With the gradient of JAX itself, the conjugate, a step would climb along imaginary axes.
    fun = lambda p, x: jnp.mean(jnp.abs(x.astype(p["w"].dtype) @ p["w"] - 2j) ** 2)
    params = {"w": jnp.full((4, 2), 0.1 + 0.5j)}
    options = {"num_steps": 1, "gradient_norm": 100.0}
    for optimizer in ("sgd", optimizers.sgd(0.1)):
        _, report = gradinit(KEY, fun, params, X, optimizer=optimizer, **options)
        ascent = jax.grad(fun)(params, X)["w"].conj()
        np.testing.assert_allclose(
            report.objective[0], fun({"w": params["w"] - 0.1 * ascent}, X), rtol=1e-5
        )
        assert report.objective[0] < fun(params, X)
