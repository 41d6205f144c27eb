"""What the library says of variances: the numbers that the page's own must meet."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import initializers
from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.diagnostics.judging.thresholds import THRESHOLDS
from jaxopt_tut.models import mlp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.1),
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: 1.0 * x,
}
"""By the page's names."""

COMPILED = ("tanh", "elu", "gelu")
"""Those whose fixed points are computed: a smooth one, a kink in the slope, and none at once."""

POINTS = [(0.7, 0.05), (1.3, 0.3), (2.4, 0.05), (3.0, 0.5)]
"""Weight and bias variances in both phases, off the edge, where a depth scale has no digits."""

NETWORKS = [
    (1.5, 0.05), (0.02, 0.05), (1.0, 0.0), (0.25, 0.0), (12.0, 0.5), (80.0, 0.0),
    (0.1, 0.5),
]  # fmt: skip
"""Weight and bias variances of networks for the doctor: healthy, and sick in many ways."""

DEPTH, WIDTH = 8, 128


def gains() -> dict[str, float]:
    """Return the gain of each activation."""
    return {name: float(initializers.gain(f)) for name, f in ACTIVATIONS.items()}


def fields() -> list[dict[str, Any]]:
    """Return `mean_field` at each point."""
    weight, bias = np.array(POINTS).T
    rows = []
    with jax.enable_x64(True):
        for name in COMPILED:
            found = initializers.mean_field(ACTIVATIONS[name], weight, bias)
            for point, numbers in zip(POINTS, np.stack(found).T, strict=True):
                rows.append({"point": (name, *point), "expected": numbers.tolist()})
    return rows


def criticals() -> list[dict[str, Any]]:
    """Return `critical` at some bias variances."""
    bias = np.array([0.02, 0.2, 0.6])
    rows = []
    with jax.enable_x64(True):
        for name in COMPILED:
            found = initializers.critical(ACTIVATIONS[name], bias)
            for b, numbers in zip(bias.tolist(), np.stack(found).T, strict=True):
                rows.append({"point": (name, b), "expected": numbers.tolist()})
    return rows


def layers(weight: float, bias: float, depth: int) -> dict[str, dict[str, list[float]]]:
    r"""Return variances a layer by activation, from the gains of $z \mapsto \phi(\sqrt q z)$.

    $E[\phi(\sqrt q z)^2]$ is the inverse square of the forward gain of that function, and
    $E[\phi'(\sqrt q z)^2]$ that of the backward gain, divided by $q$.
    """
    found = {}
    with jax.enable_x64(True):
        for name, f in ACTIVATIONS.items():
            forward = [weight + bias]
            slopes = []
            for _ in range(depth - 1):
                q = forward[-1]
                scaled = lambda z, f=f, q=q: f(np.sqrt(q) * z)
                forward.append(weight * initializers.gain(scaled) ** -2 + bias)
                slopes.append(initializers.gain(scaled, mode="backward") ** -2 / q)
            factors = weight * np.array([*slopes, 1 / weight])
            backward = np.cumprod(factors[::-1])[::-1]
            found[name] = {"forward": forward, "backward": backward.tolist()}
    return found


def thresholds() -> dict[str, float]:
    """Return where the doctor begins to speak."""
    return dict(THRESHOLDS._asdict())


def verdicts() -> list[dict[str, Any]]:
    """Ask the doctor about tanh networks; return the kinds of all verdicts on sizes, in order."""
    x = jax.random.normal(jax.random.key(0), (64, WIDTH))
    kinds = ("exploding", "vanishing", "saturated", "rank_collapse")
    rows = []

    def loss_fn(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(mlp.apply(params, x, jnp.tanh) ** 2)

    for weight, bias in NETWORKS:
        params = mlp.init(
            jax.random.key(1),
            (WIDTH,) * (DEPTH + 1),
            kernel_init=initializers.normal((weight / WIDTH) ** 0.5),
            bias_init=initializers.normal(bias**0.5) if bias else initializers.constant(0.0),
        )
        found = [verdict.kind for verdict in diagnose(loss_fn, params, x).verdicts]
        rows.append({"point": (weight, bias), "kinds": [k for k in found if k in kinds]})
    return rows
