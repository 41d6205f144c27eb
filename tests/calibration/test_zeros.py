"""Zeros that are meant stay, and the report names them; zeros that are not are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import auto_init, gradinit, lsuv
from jaxopt_tut.diagnostics import diagnose

X = jax.random.normal(jax.random.key(5), (64, 16))
METHODS = pytest.mark.parametrize("method", [auto_init, lsuv], ids=["auto_init", "lsuv"])


def normal(*shape):
    return np.random.default_rng(shape[0]).standard_normal(shape).astype(np.float32)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def low_rank(p, x):
    return jax.nn.relu(x @ p["w"] + (x @ p["a"]) @ p["b"]) @ p["head"]


def branch(p, x):
    x = x @ p["stem"]
    return (x + jax.nn.relu(x @ p["up"]) @ p["down"]) @ p["head"]


def rezero(p, x):
    x = x @ p["stem"]
    return (x + p["alpha"] * jax.nn.relu(x @ p["up"])) @ p["head"]


def modulated(p, x):
    h = x @ p["stem"]
    shift, gate = jnp.split(x @ p["modulation"], 2, axis=1)
    return (h + gate * jnp.tanh((h + shift) @ p["inner"])) @ p["head"]


def convolved(p, x):
    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x = x.reshape(-1, 4, 4, 1)
    h = conv(x, p["main"]) + conv(conv(x, p["copy"]), p["zero"])
    return h.mean((1, 2)) @ p["head"]


def chain(p, x):
    return jnp.tanh(jnp.tanh(x @ p["0"]) @ p["1"]) @ p["2"]


MEANT = {
    "LoRA": (
        low_rank,
        {"w": normal(16, 32), "a": normal(16, 4), "b": zeros(4, 32), "head": normal(32, 3)},
        {"b"},
    ),
    "last layer of a branch": (
        branch,
        {"stem": normal(16, 32), "up": normal(32, 8), "down": zeros(8, 32), "head": normal(32, 3)},
        {"down"},
    ),
    "ReZero": (
        rezero,
        {"stem": normal(16, 32), "up": normal(32, 32), "alpha": zeros(), "head": normal(32, 3)},
        set(),
    ),
    "modulation": (
        modulated,
        {
            "stem": normal(16, 32),
            "modulation": zeros(16, 64),
            "inner": normal(32, 32),
            "head": normal(32, 3),
        },
        {"modulation"},
    ),
    "ControlNet": (
        convolved,
        {
            "main": normal(3, 3, 1, 4),
            "copy": normal(3, 3, 1, 4),
            "zero": zeros(1, 1, 4, 4),
            "head": normal(4, 3),
        },
        {"zero"},
    ),
    "readout": (chain, {"0": normal(16, 8), "1": normal(8, 8), "2": zeros(8, 3)}, {"2"}),
}


@METHODS
@pytest.mark.parametrize("name", MEANT)
def test_zeros_beside_others_stay_and_are_named(method, name):
    fn, params, kept = MEANT[name]
    fitted, report = method(jax.random.key(0), fn, params, X)
    for leaf, before in params.items():
        if leaf in kept or leaf == "alpha":
            np.testing.assert_array_equal(fitted[leaf], before)
        else:
            assert (fitted[leaf] != before).all()
    reasons = dict(report.left)
    assert reasons.keys() == kept
    assert all("keep_zeros=False" in why for why in reasons.values())
    assert not kept & dict(report.how).keys()
    assert report.converged


@pytest.mark.slow
@pytest.mark.parametrize("name", MEANT)
def test_zeros_that_are_meant_are_no_alarm(name):
    fn, params, kept = MEANT[name]
    loss = lambda p, x: jnp.mean((fn(p, x) - x[:, :3]) ** 2)
    fitted, _ = auto_init(jax.random.key(0), fn, params, X)
    for tree in (params, fitted):
        assert not [v for v in diagnose(loss, tree, X).verdicts if v.layer in kept]


@METHODS
def test_zeros_are_drawn_where_that_is_asked_for(method):
    fn, params, _ = MEANT["LoRA"]
    fitted, report = method(jax.random.key(0), fn, params, X, keep_zeros=False)
    assert abs(report.layers["b"].after - 1) < 1
    assert fitted["b"].all()
    assert report.left == ()


@METHODS
@pytest.mark.parametrize("keep_zeros", [None, False])
def test_a_network_all_of_whose_weights_are_zero_is_drawn(method, keep_zeros):
    params = {"0": zeros(16, 8), "1": zeros(8, 8), "2": zeros(8, 3)}
    fitted, report = method(jax.random.key(0), chain, params, X, keep_zeros=keep_zeros)
    assert all(leaf.all() for leaf in fitted.values())
    assert report.converged
    assert report.left == ()


@METHODS
def test_zeros_that_cut_a_network_are_no_success(method):
    params = {"0": normal(16, 8), "1": zeros(8, 8), "2": normal(8, 3)}
    fitted, report = method(jax.random.key(0), chain, params, X)
    np.testing.assert_array_equal(fitted["1"], 0)
    assert dict(report.unmet) == {
        "2": "its pre-activations are the same for all examples; weights of zero were kept, "
        "keep_zeros=False draws them"
    }
    # two in a row: the second reads nothing, so that neither learns
    params["2"] = zeros(8, 3)
    report = method(jax.random.key(0), chain, params, X)[1]
    assert "cannot learn" in dict(report.unmet)["2"]
    assert not report.converged


@METHODS
def test_all_zeros_stay_where_that_is_asked_for(method):
    params = {"0": zeros(16, 8), "1": zeros(8, 8), "2": zeros(8, 3)}
    fitted, report = method(jax.random.key(0), chain, params, X, keep_zeros=True)
    assert not any(leaf.any() for leaf in fitted.values())
    assert dict(report.left).keys() == {"0", "1", "2"}
    assert dict(report.unmet).keys() == {"1", "2"}


@pytest.mark.slow
def test_factors_leave_zeros_and_say_so():
    fn, params, _ = MEANT["LoRA"]
    loss = lambda p, x: jnp.mean((fn(p, x) - 1) ** 2)
    fitted, report = gradinit(jax.random.key(0), loss, params, X, num_steps=3)
    np.testing.assert_array_equal(fitted["b"], 0)
    assert dict(report.left) == {"b": "it is zero, which no factor changes"}
    assert dict(report.how).keys() == {"w", "a", "head"}
