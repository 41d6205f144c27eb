"""Newton's methods, the trust region, conjugate gradients and least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import least_squares

from jaxopt_tut.linalg import modified_cholesky_solve
from jaxopt_tut.optimizers import (
    gauss_newton,
    levenberg_marquardt,
    minimize,
    newton,
    newton_cg,
    nonlinear_cg,
    scale_by_gauss_newton,
    scale_by_newton,
    scale_by_newton_cg,
    scale_by_nonlinear_cg,
    trust_region,
)

SOLVERS = pytest.mark.parametrize(
    "make", [newton, newton_cg, trust_region, nonlinear_cg], ids=lambda m: m.__name__
)
START = np.array([-1.2, 1.0])


def rosenbrock(w):
    return jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)


def saddle(w):
    return w[0] ** 2 + (w[1] ** 2 - 1) ** 2


@pytest.mark.usefixtures("x64")
@SOLVERS
def test_finds_the_minimum_of_rosenbrock(make):
    solution = minimize(rosenbrock, jnp.array(START), make())
    assert solution.converged
    np.testing.assert_allclose(solution.params, 1, atol=1e-5)
    # from the standard start SciPy's solvers take 85 (Newton-CG), 26 (trust-exact), 62 (CG)
    assert solution.evaluations <= 130


@SOLVERS
def test_an_indefinite_hessian_leads_away_from_the_saddle(make):
    solution = minimize(saddle, jnp.array([0.5, 0.05]), make())
    assert solution.converged
    np.testing.assert_allclose(jnp.abs(solution.params), [0.0, 1.0], atol=1e-3)


@SOLVERS
def test_a_singular_hessian_does_no_harm(make):
    fun = lambda w: (w[0] + w[1] - 3) ** 2  # flat along (1, -1)
    solution = minimize(fun, jnp.array([1.0, -1.0]), make())
    assert solution.converged
    np.testing.assert_allclose(solution.params, [2.5, 0.5], rtol=1e-3)  # the nearest minimum


@SOLVERS
def test_any_tree_and_complex_leaves(make):
    target = {"a": jnp.array([1.0 + 2.0j]), "b": (jnp.array(3.0), None, jnp.zeros((0, 2)))}
    weight = {"a": 1.0, "b": (4.0, None, 1.0)}

    def fun(p):
        leaves = zip(*(jax.tree.leaves(tree) for tree in (p, target, weight)), strict=True)
        return sum(c * jnp.sum(jnp.real((z - t) * jnp.conj(z - t))) for z, t, c in leaves)

    solution = minimize(fun, jax.tree.map(jnp.zeros_like, target), make())
    assert solution.converged
    np.testing.assert_allclose(solution.params["a"], target["a"], atol=1e-4)
    np.testing.assert_allclose(solution.params["b"][0], 3.0, atol=1e-4)


@SOLVERS
def test_a_function_that_is_not_finite_ends(make):
    nowhere = minimize(lambda w: jnp.sum(jnp.log(w)), -jnp.ones(2), make())
    assert int(nowhere.status) == 6
    below = minimize(lambda w: -jnp.sum(w**4), jnp.ones(2), make(), max_steps=200)
    assert not below.converged
    assert jnp.isfinite(below.value)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_newton_directions_solve_the_newton_equations():
    w = jnp.array([1.1, 1.2])
    g, h = jax.grad(rosenbrock)(w), jax.hessian(rosenbrock)(w)
    dense = scale_by_newton(damping=0.5)
    u, _ = dense.update(g, dense.init(w), w, value_fn=rosenbrock)
    np.testing.assert_allclose(u, np.linalg.solve(h + 0.5 * np.eye(2), g), rtol=1e-10)
    free = scale_by_newton_cg()
    u, state = free.update(1e-9 * g, free.init(w), w, value_fn=rosenbrock)
    residual = np.linalg.norm(h @ u - 1e-9 * g)
    assert residual <= np.linalg.norm(1e-9 * g) ** 1.5
    assert state.num_products <= 3


@pytest.mark.slow
def test_newton_takes_other_solves_and_traced_damping():
    w = jnp.array([1.0, 0.1])
    g = jax.grad(saddle)(w)
    transform = scale_by_newton(solve=modified_cholesky_solve)
    u, _ = transform.update(g, transform.init(w), w, value_fn=saddle)
    assert u[1] < 0 < u[0]  # along the negative curvature against the gradient's wish for 0

    def end(damping):
        optimizer = newton(damping=damping, line_search=optax.identity())
        updates, _ = optimizer.update(2 * w, optimizer.init(w), w, value_fn=lambda w: w @ w)
        return updates[0]

    # -2 / (2 + mu), and its derivative 2 / (2 + mu)^2
    few_roundings = {"rtol": 4 * float(jnp.finfo(w.dtype).eps)}
    np.testing.assert_allclose(jax.vmap(end)(jnp.array([0.0, 2.0])), [-1.0, -0.5], **few_roundings)
    np.testing.assert_allclose(jax.grad(end)(2.0), 2 / 16, **few_roundings)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("max_dense", [0, 64])
def test_both_steps_of_the_trust_region_find_the_minimum(max_dense):
    solution = minimize(rosenbrock, jnp.array([-1.2, 1.0, -1.2]), trust_region(max_dense=max_dense))
    assert solution.converged
    np.testing.assert_allclose(solution.params, 1, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_the_trust_region_is_not_misled_by_units():
    # curvatures from 1 to 1e16, the largest float64 can tell apart from the smallest
    unit = jnp.array([1.0, 1e8])
    solution = minimize(lambda w: rosenbrock(w * unit), jnp.array(START) / unit, trust_region())
    assert solution.converged
    np.testing.assert_allclose(solution.params * unit, 1, atol=1e-5)


@pytest.mark.slow
def test_a_rejected_trust_region_step_is_zero_and_shrinks_the_radius():
    # the model knows nothing of the wall
    fun = lambda w: jnp.sum(jnp.where(w < 0.5, -w, 100 * w))
    optimizer = trust_region(initial_radius=1.0)
    w = jnp.array([0.4])
    state = optimizer.init(w)
    updates, state = optimizer.update(jnp.array([-1.0]), state, w, value_fn=fun)
    np.testing.assert_array_equal(updates, 0)
    assert not state.accepted
    assert not state.failed
    assert state.radius == 0.25
    np.testing.assert_allclose(state.value, -0.4)
    np.testing.assert_array_equal(state.grad, [-1.0])


def test_conjugate_gradients_restart_where_curvature_is_negative():
    transform = scale_by_nonlinear_cg()
    w, g = jnp.array([1.0, 1.0]), jnp.array([0.5, 0.25])
    _, state = transform.update(g, transform.init(w), w)
    direction, _ = transform.update(jnp.array([0.6, 0.3]), state, w - g)
    # along the gradient: no memory of the direction before
    np.testing.assert_allclose(direction[0] / direction[1], 2.0, rtol=1e-6)


T = np.linspace(0.0, 3.0, 12)
DATA = 2.0 * np.exp(-0.7 * T) + 0.05 * np.sin(9 * T)


def residual(w):
    return w[0] * jnp.exp(-w[1] * T.astype(w.dtype)) - DATA.astype(w.dtype)


def half_sum_of_squares(w):
    return 0.5 * jnp.sum(residual(w) ** 2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", [gauss_newton, levenberg_marquardt], ids=lambda m: m.__name__)
def test_least_squares_are_those_of_scipy(make):
    start = jnp.array([1.0, 1.0])
    ours = minimize(half_sum_of_squares, start, make(), residual_fn=residual, gtol=1e-9)
    theirs = least_squares(lambda w: np.asarray(residual(jnp.array(w))), start, xtol=1e-12)
    assert ours.converged
    np.testing.assert_allclose(ours.params, theirs.x, rtol=1e-6)
    assert ours.steps <= 15


@pytest.mark.usefixtures("x64")
def test_gauss_newton_is_the_shortest_least_squares_step():
    fun = lambda w: jnp.array([w[0] + w[1] - 3.0, 2 * (w[0] + w[1] - 3.0)])
    transform, w = scale_by_gauss_newton(), jnp.array([1.0, 0.0])
    u, _ = transform.update(w, transform.init(w), w, residual_fn=fun)
    np.testing.assert_allclose(w - u, [2.0, 1.0], rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_levenberg_marquardt_does_not_care_for_units():
    scale = jnp.array([1.0, 1e6])
    run = lambda fun, w: (
        minimize(
            lambda w: jnp.sum(fun(w) ** 2), w, levenberg_marquardt(), residual_fn=fun, max_steps=5
        ).params
    )
    plain = run(residual, jnp.array([1.0, 1.0]))
    scaled = run(lambda w: residual(w * scale), jnp.array([1.0, 1.0]) / scale)
    np.testing.assert_allclose(scaled * scale, plain, rtol=1e-8)


def test_levenberg_marquardt_rejects_a_step_uphill():
    fun = lambda w: jnp.where(w > 0.5, w, 10.0 + w)  # the linear model leads over the edge
    optimizer = levenberg_marquardt(initial_damping=1e-6)
    w = jnp.array([1.0])
    updates, state = optimizer.update(w, optimizer.init(w), w, residual_fn=fun)
    np.testing.assert_array_equal(updates, 0)
    assert not state.accepted
    assert state.radius < 1  # the length of the step: the residual is the parameter


@pytest.mark.parametrize(
    ("make", "needed"),
    [
        (newton, "value_fn"),
        (newton_cg, "value_fn"),
        (trust_region, "value_fn"),
        (gauss_newton, "residual_fn"),
        (levenberg_marquardt, "residual_fn"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_missing_arguments_are_named(make, needed):
    optimizer, w, name = make(), jnp.ones(2), make.__name__
    state = optimizer.init(w)
    with pytest.raises(ValueError, match=f"{name} needs {needed}"):
        optimizer.update(w, state, w)
    with pytest.raises(ValueError, match=f"{name} needs params"):
        optimizer.update(w, state)
    with pytest.raises(ValueError, match=f"{name} needs leaves of the same shape"):
        optimizer.update(jnp.ones(3), state, w, value_fn=jnp.sum, residual_fn=jnp.sin)
    with pytest.raises(TypeError, match=f"{name} needs floating or complex parameters"):
        optimizer.init(jnp.arange(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: newton(damping=-1.0), "newton needs a finite damping >= 0, got damping=-1.0"),
        (
            lambda: newton_cg(max_products=0),
            "newton_cg needs max_products >= 1, got max_products=0",
        ),
        (lambda: trust_region(initial_radius=0), "trust_region needs initial_radius > 0"),
        (lambda: trust_region(max_products=0), "trust_region needs max_products >= 1"),
        (lambda: trust_region(max_dense=-1), "trust_region needs max_dense >= 0, got max_dense=-1"),
        (lambda: levenberg_marquardt(initial_damping=0), "needs initial_damping > 0"),
        (lambda: nonlinear_cg(float("inf")), "nonlinear_cg needs a finite learning_rate"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
