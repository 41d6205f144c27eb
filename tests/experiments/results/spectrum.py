"""Results of `spectrum`: one as it should be, then falsified ones."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.curvature import spectrum
from jaxopt_tut.curvature import linear_map, spectral_density


def results():
    eigenvalues = np.concatenate([np.zeros(28), [1.0, 5.0]])
    op = linear_map(lambda v, d: d * v, jnp.zeros(30), jnp.asarray(eigenvalues, jnp.float32))
    density = spectral_density(op, jax.random.key(0), probes=2, steps=3, deflate=2)
    good = spectrum.Result(
        eigenvalues=eigenvalues,
        density=density,
        coverage=np.array([0.9, 1.0]),
        distances=np.array([1e-4, 5e-5]),
        outlier_errors=np.array([1e-6]),
        by_layer={"0": np.array([5.0, 1.0]), "1": np.array([1.0])},
        block_differences={"ReLU": {"0": 0.0, "1": 1e-16}, "tanh": {"0": 0.3, "1": 0.0}},
        whole_difference={"ReLU": 0.01, "tanh": 0.3},
    )
    yield good
    yield good._replace(
        eigenvalues=np.linspace(-1, 1, 30),
        coverage=np.array([0.5, 0.6]),
        distances=np.array([1e-2]),
        outlier_errors=np.array([np.nan]),
        block_differences={"ReLU": {"0": 0.1}, "tanh": {"0": 0.0}},
        whole_difference={"ReLU": 0.0, "tanh": 0.0},
    )
