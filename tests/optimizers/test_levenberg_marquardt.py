"""Fits that arrive, fits that lose a parameter, and what tells them apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.test_util import check_grads

from jaxopt_tut.optimizers import gauss_newton, least_squares, levenberg_marquardt, minimize
from jaxopt_tut.optimizers.damped_least_squares import damped, damping_within, factors

T = np.linspace(0.5, 4.0, 8)
VANISHED, ORTHOGONAL = 10, 11


def fit(residual_fn, start, optimizer=None, **options):
    half = lambda w: 0.5 * sum(jnp.sum(r**2) for r in jax.tree.leaves(residual_fn(w)))
    optimizer = levenberg_marquardt() if optimizer is None else optimizer
    return minimize(half, start, optimizer, residual_fn=residual_fn, **options)


def decay(w):
    return w[0] * jnp.exp(-w[1] * T.astype(w.dtype)) - (2 * np.exp(-0.7 * T)).astype(w.dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(6, 3), (3, 5), (4, 4)], ids=["tall", "wide", "square"])
@pytest.mark.parametrize("radius", [0.3, 1e3], ids=["bound", "free"])
def test_the_step_in_a_ball_satisfies_its_equations_and_so_does_its_derivative(shape, radius):
    rng = np.random.default_rng(0)
    a, b = jnp.array(rng.normal(size=shape)), jnp.array(rng.normal(size=shape[0]))

    def step(*given):
        a, b, radius = map(jnp.asarray, given)
        of = factors(a)
        damping = damping_within(of, a, b, radius)
        return damped(of, a, b, damping), damping

    p, damping = step(a, b, radius)
    np.testing.assert_allclose(a.T @ (a @ p + b) + damping * p, 0, atol=1e-12)
    if radius == 1e3:
        assert damping == 0
        np.testing.assert_allclose(p, -np.linalg.pinv(a) @ b, rtol=1e-10)
    else:
        np.testing.assert_allclose(np.linalg.norm(p), radius, rtol=1e-12)
    check_grads(lambda *x: step(*x)[0], (a, b, jnp.float64(radius)), order=1, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_fit_does_not_care_for_the_units_of_its_data(unit, dtype):
    # with a gradient of at most 1e-9 unit^2, the start itself has a "small gradient"
    with jax.enable_x64(dtype == "float64"):
        residuals = lambda w: unit * decay(w * jnp.array([1 / unit, 1.0], dtype))
        start = jnp.array([unit, 1.0], dtype)
        solution = fit(residuals, start)
        assert solution.converged
        rtol = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(solution.params, [2 * unit, 0.7], rtol=rtol)


@pytest.mark.usefixtures("x64")
def test_orthogonal_residuals_end_a_fit_where_rounding_keeps_the_gradient_large():
    # the gradient's rounding, 1e8 * 1e8 * 1e-16 * 8, is above any gtol that is asked for
    data = 1e8 * (2 + np.sin(37 * T))
    residuals = lambda w: w[0] + w[1] * T * 1e8 - data
    solution = fit(residuals, jnp.ones(2), gtol=1e-9)
    assert solution.converged
    assert solution.status == ORTHOGONAL
    assert "orthogonal" in solution.message
    line = np.polynomial.polynomial.polyfit(1e8 * T, data, 1)
    np.testing.assert_allclose(solution.params, line, rtol=1e-12)


def fell(w):  # the slope of a sigmoid, far on the flat side: small, and it points to the residual
    return jnp.stack([w[0] - 1.0, jax.nn.sigmoid(-w[1]) + 1.0])


def dead(w):  # a kink that was crossed
    return jnp.stack([w[0] - 1.0, jax.nn.relu(w[1]) + 1.0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", [levenberg_marquardt, gauss_newton], ids=["lm", "gauss_newton"])
@pytest.mark.parametrize("options", [{}, {"gtol": 1e-6}, {"ftol": 1e-9}], ids=str)
def test_a_parameter_that_lost_its_hold_is_no_convergence(make, options):
    solution = fit(dead, jnp.array([0.0, 0.5]), make(), **options)
    assert not solution.converged
    assert solution.status == VANISHED
    assert "no longer depend on one of the parameters" in solution.message
    np.testing.assert_allclose(solution.params[0], 1, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_column_that_fades_is_no_convergence_either():
    # the minimum is at infinity; the gradient is below gtol at w[1] = 14
    solution = fit(fell, jnp.array([0.0, 1.0]), gtol=1e-9)
    assert not solution.converged


ALRIGHT = {
    "unused parameter": (lambda w: jnp.stack([w[0] - 1, 2 * w[0]]), [0.0, 5.0], [0.2, 5.0]),
    # the shortest step in units of the columns
    "more unknowns": (lambda w: (w[0] + 2 * w[1] - 5)[None], [0.0, 0.0], [2.5, 1.25]),
    "same columns": (
        lambda w: jnp.stack([w[0] + w[1] - 2, w[0] + w[1] - 4]),
        [0.0, 0.0],
        [1.5] * 2,
    ),
    "zero residual": (lambda w: decay(w), [1.0, 1.0], [2.0, 0.7]),
    "starts there": (lambda w: decay(w), [2.0, 0.7], [2.0, 0.7]),
    # the column of w[1] vanishes at the solution, but nothing is left to explain
    "zero amplitude": (lambda w: w[0] * jnp.exp(-w[1] * T), [1.0, 1.0], [0.0, None]),
    "double root": (lambda w: jnp.stack([w[0] ** 2, w[1] - 1]), [1.0, 0.0], [0.0, 1.0]),
    # a column falls by 1e21 on the way to a minimum with a rest
    "far start": (lambda w: jnp.stack([jnp.exp(w[0]) - 1, w[0] - 0.5, w[1]]), [50.0, 1.0], None),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("residuals", "start", "end"), ALRIGHT.values(), ids=ALRIGHT)
def test_a_good_end_is_convergence(residuals, start, end):
    solution = fit(residuals, jnp.array(start))
    assert solution.converged
    # a double root is found to half of the digits, as its square is rounding
    for found, expected in zip(solution.params, end or (), strict=bool(end)):
        assert expected is None or abs(found - expected) <= 1e-6
    _, jacobian = residuals(solution.params), jax.jacfwd(residuals)(solution.params)
    gradient = residuals(solution.params) @ jacobian
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


@pytest.mark.parametrize("initial", [{"initial_damping": 3.0}, {"initial_radius": 0.2}], ids=str)
def test_the_first_step_is_the_damped_one_or_as_long_as_it_may(initial):
    optimizer, w = levenberg_marquardt(**initial, acceleration=0), jnp.array([1.0, 1.0])
    update = lambda w: optimizer.update(w, optimizer.init(w), w, residual_fn=decay)
    u, state = jax.jit(update)(w)
    jacobian, r = np.float64(jax.jacfwd(decay)(w)), np.float64(decay(w))
    d = np.linalg.norm(jacobian, axis=0)
    if "initial_damping" in initial:
        matrix = jacobian.T @ jacobian + 3 * np.diag(d**2)
        np.testing.assert_allclose(u, -np.linalg.solve(matrix, jacobian.T @ r), rtol=1e-5)
        np.testing.assert_allclose(state.damping, 3, rtol=1e-5)
    else:
        np.testing.assert_allclose(np.linalg.norm(d * u), 0.2 * np.linalg.norm(d), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_the_acceleration_is_the_second_term_of_the_path():
    # of r(w) = exp(w) - c the step is u, and the curve to the solution bends by -u^2 / 2
    residuals = lambda w: jnp.exp(w) - jnp.exp(1.0)
    w = jnp.array([0.95])
    u = (np.e - np.exp(0.95)) / np.exp(0.95)
    for acceleration, step in ((0.1, u - u**2 / 2), (0.0, u), (0.01, u)):
        optimizer = levenberg_marquardt(acceleration=acceleration)
        found, _ = optimizer.update(w, optimizer.init(w), w, residual_fn=residuals)
        np.testing.assert_allclose(found[0], step, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_damping": 0.0}, "needs initial_damping > 0, got initial_damping=0.0"),
        ({"initial_radius": 0.0}, "needs initial_radius > 0, got initial_radius=0.0"),
        ({"initial_radius": np.inf}, "needs a finite initial_radius"),
        ({"acceleration": -1.0}, "needs a finite acceleration >= 0, got acceleration=-1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"levenberg_marquardt {message}"):
        levenberg_marquardt(**options)


def draws():
    rng = np.random.default_rng(1)
    a, b, k = rng.normal(size=(24, 4, 4)), 3 * rng.normal(size=(24, 4)), rng.uniform(0, 2, 24)
    return a, b, k, 2 * rng.normal(size=(24, 4))


def large_residuals(w, a, b, k):
    return jnp.concatenate([jnp.sin(a @ w) - b, k * (w - 1), jnp.exp(0.3 * w)])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("row", [3, 4, 12, 21])
def test_fits_whose_steps_hover_at_the_rounding_of_large_residuals_arrive(row):
    *args, start = (jnp.asarray(draw[row]) for draw in draws())
    found = least_squares(large_residuals, start, *args, max_steps=150)
    assert found.converged
    # steps that lower the sum of squares by less than 10 eps of it are not told from rounding
    on_host = jax.jit(large_residuals), jax.jit(jax.jacobian(large_residuals))
    value, slope = (lambda w, f=f: np.asarray(f(jnp.asarray(w), *args)) for f in on_host)
    options = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
    theirs = scipy.optimize.least_squares(value, found.params, jac=slope, **options)
    assert found.value <= theirs.cost * (1 + 100 * np.finfo(float).eps)
