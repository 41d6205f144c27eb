"""Every kind of sharpness on quadratics, against its closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxopt_tut.curvature import Ascent, AverageCase, Critical, LargestEigenvalue, sharpness
from jaxopt_tut.optimizers.norms import L1, L2, LInf, Spectral
from tests.curvature.flatness.problems import KEY, as_vector, hessian, point, quadratic

in_double = pytest.mark.usefixtures("x64")

SLOPE = np.array([0.3, -0.5, 0.2, 1.0, -0.1, 0.7])


def measure(kind, params, matrix, slope=SLOPE, key=KEY):
    return sharpness(
        quadratic, params, (jnp.asarray(matrix), jnp.asarray(slope)), kind=kind, key=key
    )


def steepest(norm, gradient):
    """Return the steepest direction of the tree {a: (2, 2), b: (2,)}, in NumPy."""
    if isinstance(norm, L1):
        largest = np.argmax(np.abs(gradient))
        return np.sign(gradient) * (np.arange(gradient.size) == largest)
    if isinstance(norm, LInf):
        return np.sign(gradient)
    if isinstance(norm, Spectral):
        left, _, right = np.linalg.svd(gradient[:4].reshape(2, 2))
        last = gradient[4:] / np.linalg.norm(gradient[4:])
        return np.concatenate([(left @ right).ravel(), last])
    return gradient / np.linalg.norm(gradient)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("norm", [L1(), L2(), LInf(), Spectral()], ids=lambda n: type(n).__name__)
@in_double
def test_one_step_of_ascent_is_the_rise_at_the_steepest_corner_of_the_ball(norm, adaptive):
    matrix, params = hessian(), point()
    w = as_vector(params)
    gradient = matrix @ w + SLOPE
    scale = np.abs(w) if adaptive else np.ones(6)
    step = 0.3 * scale * steepest(norm, scale * gradient)
    rise = measure(Ascent(0.3, norm, adaptive=adaptive), params, matrix)
    np.testing.assert_allclose(rise.mean, gradient @ step + step @ matrix @ step / 2, rtol=1e-12)
    assert rise.sem == 0


@in_double
def test_the_eigenvalue_is_that_of_the_matrix_in_every_geometry():
    matrix, params = hessian(), point()
    rng = np.random.default_rng(4)
    scale = {"a": jnp.asarray(rng.uniform(1, 3, (2, 2))), "b": jnp.asarray(rng.uniform(1, 3, 2))}
    rows = {
        LargestEigenvalue(): np.ones(6),
        LargestEigenvalue(adaptive=True): as_vector(params) ** 2,
    }
    for kind, squares in [*rows.items(), (LargestEigenvalue(scale), as_vector(scale))]:
        value = measure(kind, params, matrix)
        expected = np.linalg.eigvals(squares[:, None] * matrix).real.max()
        np.testing.assert_allclose(value.mean, expected, rtol=1e-10)
        assert value.sem == 0


@in_double
def test_an_eigenvalue_that_has_not_converged_is_within_its_error():
    matrix, params = hessian(), point()
    value = measure(LargestEigenvalue(max_products=2), params, matrix)
    assert 0 < np.min(np.abs(np.linalg.eigvalsh(matrix) - value.mean)) <= value.sem


def largest_on_sphere(matrix, gradient, radius):
    """Return the largest value of g.e + e.H e / 2 in a ball, by its secular equation."""
    values, vectors = np.linalg.eigh(matrix)
    parts = vectors.T @ gradient
    length = lambda shift: np.linalg.norm(parts / (shift - values)) - radius
    top = max(values[-1], 0.0)
    if top == 0 and length(0.0) < 0:  # the maximum lies inside
        e = -parts / values
    else:
        e = parts / (optimize.brentq(length, top + 1e-12, top + 1e6, xtol=1e-14) - values)
    return parts @ e + values @ e**2 / 2


@pytest.mark.parametrize("lowest", [0.1, -5.0, -30.0])
@in_double
def test_many_steps_of_ascent_find_the_maximum_in_the_ball(lowest):
    matrix, params = hessian(lowest=lowest), point()
    gradient = matrix @ as_vector(params) + SLOPE
    rise = measure(Ascent(0.7, num_steps=300), params, matrix)
    # a first-order method: the distance left is squared in the value
    np.testing.assert_allclose(rise.mean, largest_on_sphere(matrix, gradient, 0.7), rtol=1e-6)


@in_double
def test_steps_reach_a_corner_of_the_cube_from_which_no_neighbour_is_higher():
    matrix, params = hessian(), point()
    gradient = matrix @ as_vector(params) + SLOPE
    rise = float(measure(Ascent(0.7, LInf(), num_steps=20), params, matrix).mean)
    corners = 0.7 * np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    values = corners @ gradient + np.sum(corners @ matrix * corners, axis=1) / 2
    assert np.min(np.abs(values - rise)) < 1e-12 * rise
    assert rise >= 0.9 * values.max()


@in_double
def test_more_steps_never_find_less():
    matrix, params = hessian(lowest=-4.0), point()
    rises = [
        float(measure(Ascent(0.9, num_steps=count), params, matrix).mean) for count in range(1, 9)
    ]
    assert rises == sorted(rises)
    assert rises[-1] > rises[0]


@pytest.mark.parametrize("norm", [L2(), LInf()], ids=["L2", "LInf"])
@in_double
def test_from_a_minimum_a_random_direction_begins(norm):
    matrix = hessian()
    params = jax.tree.map(jnp.zeros_like, point())
    one, many = (
        float(measure(Ascent(0.3, norm, num_steps=count), params, matrix, np.zeros(6)).mean)
        for count in (1, 200)
    )
    assert one == 0
    if isinstance(norm, L2):  # half of 5.0 times the squared radius
        np.testing.assert_allclose(many, 0.5 * 5.0 * 0.09, rtol=1e-6)
    assert many > 0


@pytest.mark.parametrize("adaptive", [False, True])
@in_double
def test_the_average_rise_is_half_the_trace_times_the_squared_radius(adaptive):
    matrix, params = hessian(), point()
    scale = np.abs(as_vector(params)) if adaptive else np.ones(6)
    kind = AverageCase(0.2, num_samples=2000, adaptive=adaptive)
    rise = jax.jit(lambda params: measure(kind, params, matrix))(params)
    expected = 0.02 * np.trace(scale[:, None] * matrix * scale)
    assert abs(rise.mean - expected) < 4 * rise.sem
    # Gaussian noise: the variance of e.A e / 2 is tr(A A) / 2
    variance = 0.04**2 * np.sum((scale[:, None] * matrix * scale) ** 2) / 2
    np.testing.assert_allclose(rise.sem, np.sqrt(variance / 2000), rtol=0.15)
    assert rise.degrees == 1999


@in_double
def test_intervals_of_the_average_rise_cover_the_truth():
    matrix, params = hessian(), point()
    keys = jax.random.split(KEY, 400)
    batch = jnp.asarray(matrix), jnp.asarray(SLOPE)
    run = lambda key: sharpness(
        quadratic, params, batch, kind=AverageCase(0.2, num_samples=20), key=key
    )
    low, high = jax.vmap(run)(keys).interval(0.95)
    truth = 0.02 * np.trace(matrix)
    # .95 and skewed samples; 4 standard errors of a share over 400 keys are .044
    assert 0.90 < np.mean((low <= truth) & (truth <= high)) < 0.99


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("offset", [0.0, -100.0, 1e4])
@in_double
def test_the_critical_sharpness_is_the_rayleigh_quotient_of_the_gradient(adaptive, offset):
    matrix, params = hessian(), point()
    w = as_vector(params)
    scale = np.abs(w) if adaptive else np.ones(6)
    g = scale * (matrix @ w + SLOPE)
    loss_fn = lambda params, batch: quadratic(params, batch) + offset
    batch = jnp.asarray(matrix), jnp.asarray(SLOPE)
    value = sharpness(loss_fn, params, batch, kind=Critical(adaptive=adaptive)).mean
    expected = g @ (scale[:, None] * matrix * scale) @ g / (g @ g)
    # the interpolation is exact; the rise has the rounding of the loss, 1e4 of 2e-16, over 1e-2
    np.testing.assert_allclose(value, expected, rtol=1e-9 if offset == 1e4 else 1e-11)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("tol", [0.5, 1e-6])
@in_double
def test_the_critical_sharpness_scales_as_the_loss(scale, tol):
    matrix, params = hessian(), point()
    values = [
        measure(Critical(tol=tol), params, factor * matrix, factor * SLOPE).mean
        for factor in (1.0, scale)
    ]
    np.testing.assert_allclose(values[1], scale * values[0], rtol=1e-9)


@in_double
def test_the_critical_rate_of_another_loss_is_a_root_of_its_rise():
    # along the axis L(w - r g) = L(w) where w - r g = -w
    value = sharpness(
        lambda w, _: jnp.sum(jnp.abs(w) ** 3), jnp.array([2.0]), kind=Critical(tol=1e-8)
    )
    np.testing.assert_allclose(value.mean, 2 * 12.0 / 4.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss_fn", "kind", "expected"),
    [
        pytest.param(lambda w, _: jnp.sum(w), Critical(), 0.0, id="falls for ever"),
        pytest.param(lambda w, _: 0 * jnp.sum(w) + 1, Critical(), np.nan, id="no gradient"),
        pytest.param(lambda w, _: jnp.sum(w**2) * jnp.nan, Critical(), np.nan, id="not a number"),
        pytest.param(
            lambda w, _: 1 + 1e-30 * jnp.sum(w**2), Critical(), np.nan, id="lost in rounding"
        ),
        pytest.param(
            lambda w, _: jnp.sum(w) + jnp.where(w[0] == 1.0, 0, 100.0),
            Critical(max_values=45),
            np.inf,
            id="always rises",
        ),
        pytest.param(
            lambda w, _: jnp.where(w[0] > 0, jnp.sum(w), jnp.nan),
            Critical(1e-6),
            2.0,
            id="not a number beyond",
        ),
    ],
)
@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["host", "program"])
@in_double
def test_a_critical_rate_that_there_is_not_ends_the_search(loss_fn, kind, expected, run):
    value = run(lambda w: sharpness(loss_fn, w, kind=kind).mean)(jnp.ones(2))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_search_evaluates_no_more_than_it_may():
    calls = []

    def loss_fn(w, _):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum(w)

    sharpness(loss_fn, jnp.ones(2), kind=Critical(max_values=5))
    jax.effects_barrier()
    # the gradient, five values, and the two of the interpolation
    assert len(calls) == 8
