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
