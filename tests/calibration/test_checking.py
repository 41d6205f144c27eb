"""A report that says converged is held against fresh rows, measured in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import auto_init, lsuv

WIDTHS = (1, 2, 8, 31, 32, 256)
ACTIVATIONS = {
    "relu": (jax.nn.relu, lambda z: np.maximum(z, 0)),
    "relu**3": (lambda z: jax.nn.relu(z) ** 3, lambda z: np.maximum(z, 0) ** 3),
    "exp": (jnp.exp, np.exp),
    "tanh": (jnp.tanh, np.tanh),
    "gelu": (
        jax.nn.gelu,
        lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    ),
    "sin": (jnp.sin, np.sin),
    "abs": (jnp.abs, np.abs),
    "x**2": (jnp.square, np.square),
}
ROWS = np.random.default_rng(0).standard_normal((20256, 8)).astype(np.float32)
BATCH, FRESH = ROWS[:256], ROWS[256:].astype(np.float64)


def chains(activation):
    """Networks of two hidden layers of each width and one output, in one function."""
    keys = iter(jax.random.split(jax.random.key(3), 3 * len(WIDTHS)))
    params = {
        f"{width:03}": [
            jax.random.normal(next(keys), shape)
            for shape in ((8, width), (width, width), (width, 1))
        ]
        for width in WIDTHS
    }

    def fn(params, x):
        outputs = []
        for weights in params.values():
            h = x
            for weight in weights[:-1]:
                h = activation(h @ weight)
            outputs.append(h @ weights[-1])
        return jnp.concatenate(outputs, axis=1)

    return fn, params


def fresh_variances(weights, activation):
    h, found = FRESH, []
    for weight in weights:
        z = h @ np.asarray(weight, np.float64)
        found.append(z.var())
        with np.errstate(over="ignore"):
            h = activation(z)
    return found


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in ("relu**3", "exp") else pytest.mark.slow)
    for name in ACTIVATIONS
])  # fmt: skip
def test_a_chain_said_to_converge_has_its_variances_on_fresh_rows(name):
    activation, in_numpy = ACTIVATIONS[name]
    fn, params = chains(activation)
    for method, tolerance in ((auto_init, 1.0), (lsuv, 0.01)):
        fitted, report = method(jax.random.key(1), fn, params, BATCH)
        unmet = dict(report.unmet)
        assert report.converged == (not unmet)
        for width, weights in fitted.items():
            layers = [report.layers[f"{width}/{k}"] for k in range(3)]
            if any(f"{width}/{k}" in unmet for k in range(3)):
                continue
            for layer, fresh in zip(layers, fresh_variances(weights, in_numpy), strict=True):
                assert 1 / (1 + tolerance) - 1e-4 <= layer.after <= 1 + tolerance
                assert layer.error < 0.5 * layer.after
                assert abs(fresh - layer.after) <= 4 * layer.error


@pytest.mark.parametrize("num_rows", [2, 3])
@pytest.mark.parametrize("method", [auto_init, lsuv])
def test_few_examples_are_no_ground_to_say_converged(method, num_rows):
    params = [np.ones((8, 4), np.float32), np.zeros((4, 1), np.float32)]
    fn = lambda p, x: jnp.tanh(x @ p[0]) @ p[1]
    report = method(jax.random.key(0), fn, params, BATCH[:num_rows])[1]
    assert not report.converged
    assert "three examples or fewer" in dict(report.unmet)["0"]
    assert report.layers["0"].error == np.inf
    assert report.layers["1"].error == 0


def test_a_weight_is_not_blown_up_for_two_rows_that_agree_by_chance():
    # one unit's variance over two rows is chi-squared of one degree: below half in two of five
    params = [np.ones((8, 4), np.float32), np.ones((4, 1), np.float32)]
    fn = lambda p, x: jnp.tanh(x @ p[0]) @ p[1]
    reports = [auto_init(jax.random.key(k), fn, params, BATCH[:2])[1] for k in range(10)]
    small = [one for one in reports if one.layers["1"].after < 0.5]
    assert small
    assert all(dict(one.how)["1"] == "theory" for one in small)
    assert not any(one.converged for one in reports)


def test_what_is_not_within_the_tolerance_is_said_with_the_deviation():
    report = lsuv(
        jax.random.key(0), lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"],
        {"w": jnp.ones((8, 4)), "v": jnp.ones((4, 1))}, BATCH, tolerance=0.0,
    )[1]  # fmt: skip
    off = {name: abs(float(layer.after) - 1) for name, layer in report.layers.items()}
    assert dict(report.unmet).keys() == {name for name, far in off.items() if far}
    assert all("a relative deviation of" in why for _, why in report.unmet)
