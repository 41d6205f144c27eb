"""The plots of eigenvalues show what was estimated, what is exact, and what had not converged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import plotting
from jaxopt_tut.curvature import Eigenpairs, linear_map, spectral_density

SPECTRUM = np.concatenate([[9.0, -4.0], np.linspace(0, 1, 30)]).astype(np.float32)


def density(spectrum=SPECTRUM, **options):
    op = linear_map(lambda v, d: d * v, jnp.asarray(spectrum), jnp.asarray(spectrum))
    return spectral_density(op, jax.random.key(0), probes=3, steps=5, **options)


def test_stems_stand_at_outliers_as_high_as_their_peaks():
    found = density(deflate=2)
    ax = plotting.plot_density(found, exact=SPECTRUM, title="A title")
    peak = 1 / (32 * float(found.width) * np.sqrt(2 * np.pi))
    dots = ax.lines[-1]
    np.testing.assert_allclose(dots.get_xdata(), [9, -4], rtol=1e-5)
    np.testing.assert_allclose(dots.get_ydata(), peak, rtol=1e-6)
    # the density itself has that height there
    at = np.abs(np.asarray(found.grid) - 9).argmin()
    assert float(found.mean[at]) == pytest.approx(peak, rel=0.01)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["3 probes", "95 % interval", "exact", "2 outliers"]
    assert (ax.get_yscale(), ax.get_title()) == ("log", "A title")
    exact = ax.lines[1].get_ydata()
    assert exact[at] == pytest.approx(peak, rel=0.01)


@pytest.mark.parametrize("deflate", [0, 1])
@pytest.mark.parametrize("spectrum", [np.zeros(4), np.full(4, np.nan)], ids=["zero", "nan"])
def test_any_density_can_be_drawn(spectrum, deflate):
    ax = plotting.plot_density(density(spectrum.astype(np.float32), deflate=deflate))
    ax.figure.canvas.draw()
    assert ax.get_yscale() == "log"


def test_eigenvalues_stand_by_rank_and_those_not_converged_are_hollow():
    pairs = Eigenpairs(
        values=jnp.array([3.0, 2.0]),
        vectors=jnp.eye(2),
        residuals=jnp.array([0.0, 0.5]),
        converged=jnp.array([True, False]),
        num_products=jnp.asarray(4),
    )
    ax = plotting.plot_eigenvalues({"dense": pairs, "conv": [5.0, 4.0, 1.0]}, yscale="log")
    assert [line.get_ydata().tolist() for line in ax.lines] == [[3, 2], [5, 4, 1]]
    assert ax.lines[1].get_xdata().tolist() == [1, 2, 3]
    (hollow,) = ax.collections
    assert hollow.get_offsets().tolist() == [[2, 2]]
    assert ax.get_yscale() == "log"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(TypeError, match=r"plot_density needs a Density, got list\."):
        plotting.plot_density([1.0])
    with pytest.raises(ValueError, match=r"needs 0 < level < 1, got level=2"):
        plotting.plot_density(density(), level=2)
    with pytest.raises(TypeError, match=r"plot_eigenvalues needs a mapping from names to numbers"):
        plotting.plot_eigenvalues([1.0])
    with pytest.raises(ValueError, match=r"plot_eigenvalues needs something to draw"):
        plotting.plot_eigenvalues({})


def test_eigenpairs_alone_are_drawn_without_a_legend():
    pairs = Eigenpairs(jnp.array([3.0, 1.0]), jnp.eye(2), jnp.zeros(2), jnp.ones(2, bool), 4)
    ax = plotting.plot_eigenvalues(pairs)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3.0, 1.0])
    assert ax.get_legend() is None
