"""Losses whose sharpness is known."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.curvature import Ascent, AverageCase, Critical, LargestEigenvalue
from jaxopt_tut.optimizers.norms import L1, LInf, Spectral

KEY = jax.random.key(7)
KINDS = {
    "eigenvalue": LargestEigenvalue(tol=1e-12),
    "eigenvalue, adaptive": LargestEigenvalue(adaptive=True, tol=1e-12),
    "eigenvalue, preconditioned": LargestEigenvalue(3.0, tol=1e-12),
    "ascent": Ascent(0.1),
    "ascent, adaptive": Ascent(0.1, adaptive=True),
    "ascent, L1": Ascent(0.1, L1()),
    "ascent, LInf": Ascent(0.1, LInf(), adaptive=True),
    "ascent, spectral": Ascent(0.1, Spectral()),
    "ascent, steps": Ascent(0.1, num_steps=4),
    "ascent, steps, adaptive": Ascent(0.1, num_steps=4, adaptive=True),
    "average": AverageCase(0.1, num_samples=5),
    "average, adaptive": AverageCase(0.1, num_samples=5, adaptive=True),
    "critical": Critical(1e-5),
    "critical, adaptive": Critical(1e-5, adaptive=True),
}
"""A row a kind; the contract is tested on all of them."""
FAMILIES = {name: KINDS[name] for name in ("eigenvalue", "ascent", "average", "critical")}
"""One of each class, for what does not depend on the rest."""


def hessian(seed=0, lowest=0.1, highest=5.0, size=6):
    """Return a symmetric matrix with eigenvalues between two numbers."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return (basis * np.linspace(lowest, highest, size)) @ basis.T


def quadratic(params, batch):
    """Return w.H w / 2 + b.w, where the batch is (H, b)."""
    w = jnp.concatenate([params["a"].ravel(), params["b"]])
    matrix, slope = batch
    return w @ matrix @ w / 2 + slope @ w


def point(dtype=np.float64):
    rng = np.random.default_rng(1)
    return {
        "a": jnp.asarray(rng.normal(size=(2, 2)), dtype),
        "b": jnp.asarray(rng.normal(size=2), dtype),
    }


def as_vector(params):
    return np.concatenate([np.ravel(params["a"]), params["b"]])


def network(params, batch):
    """Return the mean cross-entropy of a ReLU network."""
    x, y = batch
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    logits = hidden @ params["w2"] + params["b2"]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
    return -jnp.mean(chosen)


def weights(dtype=np.float64, seed=2):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (3, 5), "b1": (5,), "w2": (5, 4), "b2": (4,)}
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def images(dtype=np.float64, count=23, seed=3):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(count, 3)), dtype), jnp.asarray(rng.integers(0, 4, count))


def rescaled(params, factor):
    """Return the same function: a ReLU layer times a factor, the next one over it."""
    return {
        "w1": factor * params["w1"],
        "b1": factor * params["b1"],
        "w2": params["w2"] / factor,
        "b2": params["b2"],
    }
