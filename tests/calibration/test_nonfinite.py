"""What is not finite is named, and never becomes part of what is returned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import auto_init, gradinit, lsuv, metainit

X = jax.random.normal(jax.random.key(5), (32, 4))
PARAMS = {
    "w": jax.random.normal(jax.random.key(0), (4, 6)) / 2,
    "b": jnp.zeros(6),
    "v": jax.random.normal(jax.random.key(1), (6, 2)) / 2,
}


def outputs(p, x):
    return jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]


def loss(p, x):
    return jnp.mean((outputs(p, x) - 0.5) ** 2)


def scan_few(method):
    return lambda *args: method(jax.random.key(0), *args, num_steps=4)


DESCENTS = {"metainit": scan_few(metainit), "gradinit": scan_few(gradinit)}
LOOKS = {
    "auto_init": lambda *args: auto_init(jax.random.key(0), *args),
    "lsuv": lambda *args: lsuv(jax.random.key(0), *args),
}

LOSSES = {
    "nan": (lambda p, x: jnp.log(-jnp.abs(loss(p, x))), "loss", "it is nan"),
    "infinite": (lambda p, x: loss(p, x) / 0, "loss", "it is inf"),
}
GRADIENTS = {
    "gradient": (
        lambda p, x: loss(p, x) + jnp.linalg.norm(0 * p["w"]),
        "w",
        "its gradient holds nan at step 0, the loss not",
    ),
    "no gradient": (lambda p, x: jnp.sum(0 * outputs(p, x)), "loss", "its gradient is zero"),
    "stopped": (
        lambda p, x: jnp.sum(jax.lax.stop_gradient(outputs(p, x))),
        "loss",
        "its gradient is zero",
    ),
}
BROUGHT = {
    "batch": (PARAMS, X.at[3, 1].set(jnp.nan), "batch", "it holds nan"),
    "bias": (PARAMS | {"b": jnp.full(6, jnp.nan)}, X, "b", "it holds nan"),
}


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


@pytest.mark.parametrize("name", LOSSES | GRADIENTS)
@pytest.mark.parametrize("method", DESCENTS)
def test_a_descent_that_meets_no_number_gives_back_what_came(method, name):
    fn, at, why = (LOSSES | GRADIENTS)[name]
    fitted, report = DESCENTS[method](fn, PARAMS, X)
    assert not report.converged
    assert dict(report.unmet)[at].startswith(why)
    assert_equal(fitted, PARAMS)


@pytest.mark.parametrize("name", BROUGHT)
@pytest.mark.parametrize("method", LOOKS | DESCENTS)
def test_a_leaf_that_is_no_number_is_named(method, name):
    params, x, at, why = BROUGHT[name]
    fitted, report = (LOOKS | DESCENTS)[method](loss, params, x)
    assert not report.converged
    assert dict(report.unmet)[at] == why
    assert_equal(fitted, params)
    for layer in report.layers.values():
        assert np.isnan(layer.after)
        assert np.isnan(layer.error)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("method", LOOKS)
def test_a_loss_that_is_no_number_is_named_beside_sound_layers(method, name):
    fn, at, why = LOSSES[name]
    fitted, report = LOOKS[method](fn, PARAMS, X)
    assert dict(report.unmet) == {at: f"{why} with the parameters returned"}
    assert not report.converged
    assert all(np.isfinite(leaf).all() for leaf in fitted.values())
    assert "not converged: loss: " in str(report)


@pytest.mark.parametrize("method", LOOKS)
def test_weights_that_are_no_numbers_are_drawn_anew(method):
    fitted, report = LOOKS[method](loss, PARAMS | {"w": jnp.full((4, 6), jnp.inf)}, X)
    assert report.converged
    assert all(np.isfinite(leaf).all() for leaf in fitted.values())


@pytest.mark.parametrize("method", LOOKS)
def test_a_mask_of_infinities_is_no_fault(method):
    def masked(p, batch):
        x, mask = batch
        return jax.nn.softmax(outputs(p, x) + mask)

    mask = jnp.array([0.0, -jnp.inf])
    assert LOOKS[method](masked, PARAMS, (X, mask))[1].converged


def test_gradinit_keeps_the_last_numbers_on_its_way():
    # a wall that Adam's first steps, of 0.1 each, run into
    def fn(p, x):
        size = jnp.mean(p["v"] ** 2) / jnp.mean(PARAMS["v"] ** 2)
        return -size * jnp.where(size < 1.3, 1.0, jnp.nan) + 0 * loss(p, x)

    fitted, report = gradinit(
        jax.random.key(0), fn, PARAMS, X, learning_rate=0.1, step_size=0.0, gradient_norm=100.0,
        num_steps=6,
    )  # fmt: skip
    assert not report.converged
    assert "nan at step" in dict(report.unmet)["loss"]
    assert not np.isfinite(report.objective).all()
    size = jnp.mean(fitted["v"] ** 2) / jnp.mean(PARAMS["v"] ** 2)
    assert 1 < size < 1.3


def test_gradinit_says_where_its_constraint_is_not_kept():
    _, report = gradinit(jax.random.key(0), loss, PARAMS, X, gradient_norm=1e-9, num_steps=2)
    assert dict(report.unmet).keys() == {"gradient"}
    assert not report.converged


def test_without_any_weight_there_is_nothing_to_learn():
    params = jax.tree.map(jnp.zeros_like, PARAMS)
    report = gradinit(jax.random.key(0), loss, params, X, num_steps=2)[1]
    assert dict(report.unmet) == {"params": "all are zero, which no factor changes"}
