"""The surfaces have the minima, values and starts they state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.landscape import surfaces

SURFACES = {
    name: value
    for name, value in [
        *((n, getattr(surfaces, n)) for n in surfaces.__all__),
        ("quadratic", surfaces.quadratic([1.0, 25.0])),
    ]
    if isinstance(value, surfaces.Surface)
}
every_surface = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())


def test_the_ravine_starts_where_the_tutorial_says():
    expected = np.tanh(5.0) ** 2 + 0.05 + 1 / (1 + np.exp(-5.0))
    value = surfaces.ravine.fun(jnp.asarray(surfaces.ravine.start))
    assert expected == pytest.approx(2.0431, abs=5e-5)
    np.testing.assert_allclose(value, expected, rtol=4 * np.finfo(np.float32).eps)


def test_steep_optima_have_the_tutorials_depth():
    values = jax.vmap(surfaces.steep_optima.fun)(jnp.asarray(surfaces.steep_optima.minima))
    # 5e-6: half a unit of the last printed digit of -3.97887.
    np.testing.assert_allclose(values, -3.97887, atol=5e-6)


@pytest.mark.slow
@every_surface
@pytest.mark.usefixtures("x64")
def test_the_gradient_vanishes_and_curvature_is_positive_at_every_minimum(surface):
    for minimum in np.asarray(surface.minima, np.float64):
        gradient = jax.grad(surface.fun)(jnp.asarray(minimum))
        hessian = jax.hessian(surface.fun)(jnp.asarray(minimum))
        assert np.linalg.eigvalsh(hessian)[0] > 0
        # The stated minima are float32 with at least six digits (or neglect the other wells'
        # tails): one Newton step from there must stay within 1e-4 of them.
        assert np.abs(np.linalg.solve(hessian, gradient)).max() < 1e-4


@every_surface
@pytest.mark.usefixtures("x64")
def test_no_point_of_the_domain_lies_below_the_infimum(surface):
    lower, upper = (np.asarray(corner, np.float64) for corner in surface.domain)
    points = np.random.default_rng(0).uniform(lower, upper, (20_000, lower.size))
    minima = np.asarray(surface.minima, np.float64)
    values = jax.vmap(surface.fun)(jnp.asarray(np.concatenate([points, minima])))
    # The neglected tails (steep optima 1e-8, double well 1e-7) are the only slack.
    assert values.min() >= surface.infimum - 1e-6
    if len(minima):
        assert values[len(points) :].min() == pytest.approx(surface.infimum, abs=1e-6)


@every_surface
def test_start_and_minima_lie_in_the_domain(surface):
    lower, upper = surface.domain
    for point in [surface.start, *surface.minima]:
        assert np.all(lower <= point)
        assert np.all(point <= upper)


def test_the_ravine_only_descends_towards_its_infimum():
    along = jax.vmap(surfaces.ravine.fun)(jnp.array([[0.0, -5.0], [0.0, -20.0], [0.0, -80.0]]))
    assert np.all(np.diff(along) < 0)
    assert along[-1] == pytest.approx(surfaces.ravine.infimum, abs=1e-30)


@pytest.mark.slow
def test_the_sharp_minimum_is_the_more_curved_one_and_suffers_more_from_the_shift():
    curvature = jax.vmap(jax.hessian(surfaces.double_well.fun))(
        jnp.asarray(surfaces.double_well.minima)
    ).ravel()
    np.testing.assert_allclose(curvature, [1 / 0.8**2, 1 / 0.12**2], rtol=1e-2)
    rise = jax.vmap(surfaces.double_well_test.fun)(jnp.asarray(surfaces.double_well.minima))
    assert rise[0] < 0.1 < 0.8 < rise[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surfaces.quadratic([]), r"quadratic needs positive eigenvalues, got .*=\[\]\."),
        (lambda: surfaces.quadratic([1.0, -2.0]), r"quadratic needs positive eigenvalues, .*-2\.0"),
        (lambda: surfaces.quadratic(3.0), r"quadratic needs positive eigenvalues, got .*3\.0"),
        (
            lambda: surfaces.shifted(surfaces.ravine, [1.0]),
            r"shifted needs one offset a dimension, got shape \(1,\) for a surface of shape \(2,\)",
        ),
    ],
    ids=["no_eigenvalue", "negative_eigenvalue", "scalar", "short_offset"],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_surface_is_a_pytree_with_a_static_function():
    doubled = jax.tree.map(lambda leaf: 2 * leaf, surfaces.rosenbrock)
    assert doubled.fun is surfaces.rosenbrock.fun
    np.testing.assert_array_equal(doubled.start, 2 * surfaces.rosenbrock.start)
