"""The density of eigenvalues, against spectra that are known.

Operators are diagonal: probes are as isotropic there as in any other basis.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from jaxopt_tut.curvature import Operator, linear_map, spectral_density

SIZE = 1000
# as after training: outliers of both signs, a tail, and most of it near zero
OUTLIERS = np.array([40.0, 36.0, 14.0, 12.0, 11.0, 7.0, -5.0, 4.0, 3.5, 3.0])
TAIL = 2.0 * np.random.default_rng(0).uniform(size=SIZE - len(OUTLIERS)) ** 12
SPECTRUM = np.concatenate([OUTLIERS, TAIL])


def operator(spectrum, dtype=jnp.float32):
    """Make a diagonal operator."""
    diagonal = jnp.asarray(spectrum, dtype)
    return linear_map(lambda v, d: d * v, jnp.zeros_like(diagonal), diagonal)


def smooth(points, spectrum, width):
    """Return the true density, smoothed."""
    away = (np.asarray(points, np.float64)[:, None] - spectrum) / width
    return np.exp(-(away**2) / 2).mean(axis=1) / (width * np.sqrt(2 * np.pi))


def masses(density):
    """Return all nodes and weights."""
    return np.asarray(density.nodes).ravel(), np.asarray(density.weights).ravel()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_intervals_cover_and_the_measure_is_near_over_100_keys():
    op = operator(SPECTRUM, jnp.float64)
    measure = jax.jit(lambda key: spectral_density(op, key))
    covered, distances = [], []
    for key in jax.random.split(jax.random.key(0), 100):
        density = measure(key)
        true = smooth(density.grid, SPECTRUM, float(density.width))
        low, high = density.interval(0.95)
        is_there = true > 1e-6 * true.max()  # elsewhere there is nothing to be covered
        covered.append(np.mean(((low <= true) & (true <= high))[is_there]))
        nodes, weights = masses(density)
        distances.append(wasserstein_distance(SPECTRUM, nodes, None, weights))
    assert np.mean(covered) >= 0.88
    assert np.mean(distances) <= 1.5e-4 * np.ptp(SPECTRUM)


def test_outliers_have_their_exact_masses():
    density = spectral_density(operator(SPECTRUM), jax.random.key(1))
    edges = np.sort(OUTLIERS)
    between = (edges[1:] + edges[:-1]) / 2
    shares = density.cumulative(jnp.asarray(between, jnp.float32)).mean
    right = [np.mean(between_ >= SPECTRUM) for between_ in between]
    np.testing.assert_allclose(np.diff(shares[1:]), np.diff(right[1:]), rtol=1e-2)
    np.testing.assert_allclose(density.weights[:, :10], 1 / SIZE, rtol=1e-6)
    # float32 sums of 50 terms
    np.testing.assert_allclose(density.weights.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("deflate", [0, 3, 10])
@pytest.mark.parametrize(
    "spectrum",
    [np.zeros(12), np.full(12, 2.5), np.r_[3.0, -2.0, np.zeros(10)], np.repeat([1.0, 4.0], 6)],
    ids=["zero", "identity", "rank two", "two values"],
)
def test_spaces_that_are_used_up_early_give_right_measures(spectrum, deflate):
    density = spectral_density(operator(spectrum), jax.random.key(0), deflate=deflate)
    nodes, weights = masses(density)
    for value in np.unique(spectrum):
        # nodes lie at eigenvalues; each probe's masses are right on average (and where deflated)
        near = np.abs(nodes - value) < 1e-4
        share = weights[near].sum() / len(density.nodes)
        is_near = np.abs(np.asarray(density.nodes) - value) < 1e-4
        rows = (np.asarray(density.weights) * is_near).sum(axis=1)
        error = np.std(rows, ddof=1) / np.sqrt(len(rows))
        assert abs(share - np.mean(spectrum == value)) <= 5 * error + 1e-5
    assert bool(jnp.all(jnp.isfinite(density.mean)) & jnp.all(jnp.isfinite(density.sem)))
    far = np.abs(nodes[:, None] - np.unique(spectrum)).min(axis=1) > 1e-4
    assert weights[far].sum() < 1e-5


def test_a_small_spectrum_is_exact():
    spectrum = np.array([3.0, -1.0, 0.5])
    density = spectral_density(operator(spectrum), jax.random.key(0), width=0.3)
    true = smooth(density.grid, spectrum, 0.3)
    np.testing.assert_allclose(density.mean, true, atol=1e-5 * true.max())
    assert float(jnp.trapezoid(density.mean, density.grid)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e6, 1e25])
@pytest.mark.parametrize(
    "spectrum",
    [np.full(40, 2.5), np.full(40, -2.5), np.linspace(-1, 2, 40), np.zeros(40)],
    ids=["identity", "negative identity", "two signs", "zero"],
)
def test_the_curve_integrates_to_one_at_any_scale(spectrum, scale):
    # products with a full matrix: they round, and so the nodes of an identity spread
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    matrix = jnp.asarray((rotation * (scale * spectrum)) @ rotation.T, jnp.float32)
    op = linear_map(lambda v, a: a @ v, jnp.zeros(40), matrix)
    density = spectral_density(op, jax.random.key(0), probes=3, steps=10, deflate=2)
    assert float(density.width) > 0
    # in units of the width, as steps of the grid times densities may underflow; float32 sums
    steps = (density.grid - density.grid[0]) / density.width
    area = float(jnp.trapezoid(density.mean * density.width, steps))
    assert area == pytest.approx(1, rel=1e-4)
    assert bool(jnp.all(jnp.isfinite(density.sem)) & jnp.all(density.sem >= 0))


@pytest.mark.usefixtures("x64")
def test_the_loop_and_compiled_probes_agree():
    op = operator(SPECTRUM[:60], jnp.float64)
    options = {"probes": 2, "steps": 8, "deflate": 3}
    led = spectral_density(op, jax.random.key(0), **options)
    keys = jnp.stack([jax.random.key(0)] * 2)
    compiled = jax.jit(jax.vmap(lambda key: spectral_density(op, key, **options)))(keys)
    np.testing.assert_allclose(compiled.mean[0], led.mean, atol=1e-12 * led.mean.max())
    np.testing.assert_allclose(compiled.sem[1], led.sem, atol=1e-12 * led.mean.max())
    elsewhere = led.evaluate(jnp.array([0.0, 40.0]), 0.5)
    assert elsewhere.mean.shape == (2,)
    again = led.evaluate(led.grid)
    np.testing.assert_allclose(again.mean, led.mean, rtol=1e-13)
    np.testing.assert_allclose(again.sem, led.sem, rtol=1e-6, atol=1e-13 * led.mean.max())


def test_products_that_are_not_finite_show():
    density = spectral_density(operator(np.full(12, np.nan)), jax.random.key(0))
    assert bool(jnp.all(jnp.isnan(density.mean)))


class OnHost(Operator):
    """An operator that only the host can lead."""

    like = jnp.zeros(4)
    needs_host = True

    def _product(self, vector):
        return jnp.asarray(np.arange(4, dtype=np.float32) * np.asarray(vector))


jax.tree_util.register_pytree_node(OnHost, lambda _: ((), None), lambda *_: OnHost())


def test_the_host_may_lead_products_outside_of_transformations():
    density = spectral_density(OnHost(), jax.random.key(0), deflate=1, probes=2)
    np.testing.assert_allclose(density.nodes[0], [3, 0, 1, 2], atol=1e-5)
    with pytest.raises(TypeError, match="spectral_density needs data on the device under a transf"):
        jax.jit(lambda key: spectral_density(OnHost(), key).mean)(jax.random.key(0))


BAD = [
    ({"probes": 1}, ValueError, r"spectral_density needs probes >= 2, .* got probes=1."),
    ({"steps": 0}, ValueError, r"spectral_density needs steps >= 1, got steps=0."),
    ({"deflate": -1}, ValueError, r"spectral_density needs deflate >= 0, got deflate=-1."),
    ({"probes": 2.5}, TypeError, r"needs a whole number as probes, got probes=2.5."),
    ({"steps": "all"}, TypeError, r"needs a whole number as steps, got steps='all'."),
    ({"width": 0.0}, ValueError, r"needs a finite width > 0, got width=0.0."),
    ({"op": jnp.eye(3)}, TypeError, r"spectral_density needs an Operator as op, got "),
]


@pytest.mark.parametrize(("given", "kind", "sentence"), BAD, ids=[str(row[0]) for row in BAD])
def test_bad_arguments_are_refused(given, kind, sentence):
    arguments = {"op": operator(np.ones(3)), **given}
    with pytest.raises(kind, match=sentence):
        spectral_density(arguments.pop("op"), jax.random.key(0), **arguments)


def test_bad_widths_and_levels_are_refused():
    density = spectral_density(operator(np.ones(3)), jax.random.key(0), probes=2)
    with pytest.raises(
        ValueError, match=r"Density.evaluate needs a finite width > 0, got width=-1"
    ):
        density.evaluate(jnp.zeros(2), -1.0)
    with pytest.raises(ValueError, match=r"needs 0 < level < 1, got level=95"):
        density.interval(95)
