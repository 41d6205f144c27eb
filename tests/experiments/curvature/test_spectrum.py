"""The spectrum's distance is SciPy's, and layers lie where `ravel` puts them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from experiments.curvature import spectrum
from jaxopt_tut.models import mlp
from jaxopt_tut.vectors import ravel


@pytest.mark.parametrize("seed", range(5))
def test_distance_is_scipys(seed):
    random = np.random.default_rng(seed)
    values, nodes = np.sort(random.normal(size=7)), random.normal(size=4)
    weights = random.uniform(size=4)
    right = wasserstein_distance(values, nodes, None, weights)
    assert spectrum.wasserstein(values, nodes, weights) == pytest.approx(right, rel=1e-12)


def test_layers_are_where_ravel_lays_them():
    params = mlp.init(jax.random.key(0), (3, 2, 4))
    marked = [
        jax.tree.map(lambda leaf, i=i: jnp.full_like(leaf, i), p) for i, p in enumerate(params)
    ]
    flat = np.asarray(ravel(marked)[0])
    for i, where in enumerate(spectrum.places(params).values()):
        assert np.all(flat[where] == i)
        assert np.all(np.delete(flat, np.r_[where]) != i)


@pytest.mark.slow
def test_a_quick_run_finds_equal_layer_blocks():
    result = spectrum.run(spectrum.Config().quick())
    assert max(result.block_differences["ReLU"].values()) < 1e-12
    assert max(result.block_differences["tanh"].values()) > 1e-3
    assert result.eigenvalues.shape == (len(result.density.outliers.vectors[0]),)
