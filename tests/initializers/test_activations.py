"""What an elementwise function is, and how the rest is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.initializers import gain, kaiming_normal, mean_field, variance_map
from jaxopt_tut.initializers.activations import require_activation

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)

MIXING = {
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "standardize": jax.nn.standardize,
    "x / max|x|": lambda x: x / jnp.max(jnp.abs(x)),
    "x - mean(x)": lambda x: x - x.mean(),
    "layer norm": lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var() + 1e-5),
    "rms norm": lambda x: x * jax.lax.rsqrt(jnp.mean(x**2) + 1e-6),
    "softmax gate": lambda x: x * jax.nn.softmax(x),
    "distance to the largest": lambda x: jnp.abs(x - x.max()),
}
PLACED = {
    "cumsum": jnp.cumsum,
    "cummax": jax.lax.cummax,
    "sort": jnp.sort,
    "reversed": lambda x: x[..., ::-1],
    "roll": lambda x: jnp.roll(x, 1),
    "dropout": lambda x: jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), x, 0),
    "noise": lambda x: x + 0.1 * jax.random.normal(KEY, x.shape),
    "noise of the host": lambda x: x + RANDOM.normal(size=x.shape).astype(np.float32),
    "position": lambda x: x * jnp.linspace(0, 1, x.size).reshape(x.shape),
    "first is zero": lambda x: x.at[:4096].set(0),
    "difference": lambda x: jnp.diff(x, prepend=0),
    "convolution": lambda x: jnp.convolve(x, jnp.ones(3), mode="same"),
}
SHAPED = {
    "x / sqrt(size)": lambda x: x / np.sqrt(x.size),
    "x / width": lambda x: jnp.tanh(x / x.shape[-1]),
    "by rank": lambda x: x if x.ndim == 1 else -x,
}


@pytest.mark.parametrize(
    ("activation", "why"),
    [
        *((f, "mixes the entries") for f in MIXING.values()),
        *((f, "depends on the places of the entries") for f in PLACED.values()),
        *((f, "depends on the shape") for f in SHAPED.values()),
    ],
    ids=[*MIXING, *PLACED, *SHAPED],
)
def test_what_is_not_elementwise_is_refused_with_a_reason(activation, why):
    with pytest.raises(ValueError, match=rf"^gain needs an elementwise activation, got .*{why}\.$"):
        gain(activation)


@pytest.mark.parametrize(
    "call",
    [kaiming_normal, lambda f: variance_map(f, 1.0, 1.0, 0.0), lambda f: mean_field(f, 1.0, 0.0)],
    ids=["kaiming_normal", "variance_map", "mean_field"],
)
def test_everything_that_averages_asks_for_it(call):
    with pytest.raises(ValueError, match=r"needs an elementwise activation, got .* mixes the ent"):
        call(MIXING["x / max|x|"])


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (lambda x: x if x > 0 else 0.0, r"The truth value of an array"),
        (lambda x: x * jnp.ones(128), r"mul got incompatible shapes for broadcasting"),
        (lambda x, y: x * y, r".*missing 1 required positional argument"),
        (lambda x: x - x.mean(axis=1), r"tuple index out of range"),
    ],
    ids=["branch", "mask", "two arguments", "axis"],
)
def test_what_fails_on_an_array_is_refused_with_its_own_words(activation, reason):
    pattern = rf"^gain needs an elementwise activation, got .* fails on an array .*: {reason}"
    with pytest.raises(ValueError, match=pattern):
        gain(activation)


def bisected_inverse(x):
    """Solve y + y^3 = x by Newton's method, all entries until the last has converged."""

    def step(state):
        y, _ = state
        new = y - (y + y**3 - x) / (1 + 3 * y**2)
        return new, jnp.abs(new - y).max()

    return jax.lax.while_loop(lambda s: s[1] > 1e-6, step, (jnp.zeros_like(x), jnp.inf))[0]


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: jnp.interp(x, jnp.linspace(-2, 2, 9), jnp.tanh(jnp.linspace(-2, 2, 9))),
        lambda x: jnp.exp(-((x[..., None] - jnp.linspace(-2, 2, 5)) ** 2)).sum(-1),
        lambda x: jnp.polyval(jnp.array([0.1, 0.0, 1.0, 0.0]), x),
        lambda x: jnp.piecewise(x, [x < 0, x > 1], [0.0, 1.0, lambda x: x]),
        jax.vmap(lambda x: jnp.tanh(x) if x.ndim == 0 else jax.vmap(jnp.tanh)(x)),
        jnp.vectorize(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x)),
        jax.jit(jax.nn.gelu),
        jax.checkpoint(jnp.tanh),
        lambda x: jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
        lambda x: x * jax.random.uniform(KEY, ()),
        bisected_inverse,
        lambda x: jnp.round(100 * x) / 100,
        lambda x: jnp.sin(1e4 * x),
        jnp.log,
        jnp.arccosh,
    ],
    ids=[
        "table",
        "basis",
        "polynomial",
        "piecewise",
        "vmap",
        "vectorize",
        "jit",
        "checkpoint",
        "callback",
        "gate",
        "newton",
        "rounding",
        "rough",
        "nan",
        "half",
    ],
)
def test_what_is_elementwise_in_a_roundabout_way_passes(activation):
    assert require_activation("test", activation) == np.finfo(np.float32).eps
