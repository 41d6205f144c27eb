import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from jaxopt_tut.autodiff import check_gradients
from jaxopt_tut.bilevel import Implicit, Unroll, argmin
from jaxopt_tut.bilevel.layers import argmin_layer, prox_tv1d, qp, ridge, soft_threshold
from jaxopt_tut.optimizers import projections, sgd


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "dim"), [(7, 3), (3, 7)], ids=["tall", "wide"])
@pytest.mark.usefixtures("x64")
def test_ridge_fulfils_its_normal_equations_and_has_the_right_derivatives(rows, dim):
    X, y = draw(rows, dim), draw(rows, 2, seed=1)
    w = ridge(X, y, 0.3)
    np.testing.assert_allclose(X.T @ (X @ w - y) + 0.3 * w, 0, atol=1e-13)
    assert check_gradients(jax.jit(ridge), (X, y, 0.3)).ok


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_ridge_is_the_argmin_layer_of_its_loss():
    X, y = draw(7, 3), draw(7, seed=1)
    loss = lambda w, lam: jnp.sum((X @ w - y) ** 2) + lam * jnp.sum(w**2)
    layer = argmin_layer(loss, jnp.zeros(3), solver=sgd(0.03), steps=900)
    lams = jnp.array([0.5, 2.0])
    closed = jax.vmap(lambda lam: ridge(X, y, lam))
    np.testing.assert_allclose(layer(lams), closed(lams), rtol=1e-9)
    total = lambda fun: jax.jit(jax.grad(lambda lams: jnp.sum(jnp.sin(fun(lams)))))(lams)
    np.testing.assert_allclose(total(layer), total(closed), rtol=1e-8)


def random_program(dim=4, num_equal=1, num_unequal=5):
    root = draw(dim, dim)
    P, q = root @ root.T + 0.1 * jnp.eye(dim), 3 * draw(dim, seed=1)
    A, G = draw(num_equal, dim, seed=2), draw(num_unequal, dim, seed=3)
    inside = draw(dim, seed=4)
    return P, q, A, A @ inside, G, G @ inside + 0.2


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_qp_is_at_the_minimum_that_scipy_finds():
    P, q, A, b, G, h = random_program()
    x = qp(P, q, A, b, G, h)
    found = minimize(
        lambda x: 0.5 * x @ P @ x + q @ x,
        np.zeros(4),
        constraints=[
            {"type": "eq", "fun": lambda x: np.asarray(A @ x - b)},
            {"type": "ineq", "fun": lambda x: np.asarray(h - G @ x)},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    # SLSQP stops where the value no longer changes: half the digits of the point
    np.testing.assert_allclose(x, found.x, atol=1e-6)
    assert jnp.sum(jnp.abs(G @ x - h) < 1e-10) >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_qp_jacobians_match_those_of_the_active_set():
    P, q, A, b, G, h = random_program()
    x = qp(P, q, A, b, G, h)
    active = np.asarray(jnp.abs(G @ x - h) < 1e-9)
    rows = jnp.concatenate([A, G[active]])

    def with_equalities(q, h):
        # with the active set known, the program is one linear system
        right = jnp.concatenate([b, h[active]])
        zeros = jnp.zeros((len(rows), len(rows)))
        matrix = jnp.block([[P, rows.T], [rows, zeros]])
        return jnp.linalg.solve(matrix, jnp.concatenate([-q, right]))[:4]

    solve = lambda q, h: qp(P, q, A, b, G, h)
    found = jax.jit(jax.jacrev(solve, (0, 1)))(q, h)
    expected = jax.jacrev(with_equalities, (0, 1))(q, h)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-8)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_qp_without_inequalities_is_a_linear_system_of_any_order():
    P, q, A, b, _, _ = random_program()
    fun = jax.jit(lambda scale, b: qp(scale * P, q, A, b))
    assert check_gradients(fun, (jnp.float64(1.3), b), order=2).ok
    np.testing.assert_allclose(qp(P, q), -jnp.linalg.solve(P, q), rtol=1e-10)


def test_qp_without_a_feasible_point_is_not_a_number():
    G, h = jnp.array([[1.0, 0.0], [-1.0, 0.0]]), jnp.array([-1.0, -1.0])
    with pytest.warns(RuntimeWarning, match="relative residuals are 1.0e.00 of the constraints"):
        assert jnp.isnan(qp(jnp.eye(2), jnp.ones(2), G=G, h=h)).all()


def test_qp_in_single_precision_and_under_vmap():
    G, h = jnp.eye(2), jnp.ones(2)
    points = jnp.array([[2.0, 0.5], [0.0, 3.0]])
    solve = lambda point: qp(jnp.eye(2), -point, G=G, h=h)
    np.testing.assert_allclose(jax.vmap(solve)(points), jnp.minimum(points, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((jnp.eye(3), jnp.ones(2)), r"qp needs P \(dim, dim\) and q"),
        ((jnp.eye(2), jnp.ones(2), jnp.ones((1, 2))), "qp needs both of A and b or neither"),
        ((jnp.eye(2), jnp.ones(2), None, None, jnp.ones((1, 3)), jnp.ones(1)), r"needs G \(rows"),
    ],
    ids=["objective", "pair", "bounds"],
)
def test_qp_refuses_shapes_that_do_not_fit(arguments, match):
    with pytest.raises(ValueError, match=match):
        qp(*arguments)


def test_ridge_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"ridge needs X .* got shapes \(2, 2\) and \(3,\)"):
        ridge(jnp.eye(2), jnp.ones(3), 1.0)


def test_total_variation_refuses_a_matrix():
    with pytest.raises(ValueError, match=r"prox_tv1d needs a vector, got shape \(2, 2\)"):
        prox_tv1d(jnp.eye(2), 1.0)


@pytest.mark.usefixtures("x64")
def test_soft_threshold_has_the_jacobian_of_its_formula():
    x = jnp.array([3.0, -0.5, -2.0, 0.0])
    jacobian = jax.jacrev(soft_threshold, (0, 1))(x, 1.0)
    np.testing.assert_array_equal(jacobian[0], jnp.diag(jnp.array([1.0, 0, 1, 0])))
    np.testing.assert_array_equal(jacobian[1], [-1.0, 0, 1, 0])


def test_soft_threshold_of_other_kinds_of_numbers():
    np.testing.assert_allclose(soft_threshold(3 + 4j, 1.0), 2.4 + 3.2j, rtol=1e-6)
    x = jnp.array([3e30 + 4e30j, 0.1j, 0.0j])
    np.testing.assert_allclose(soft_threshold(x, 1.0), [3e30 + 4e30j, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(soft_threshold(jnp.array([3, -1]), 0.75), [2.25, -0.25])
    assert soft_threshold(jnp.array([3.0], jnp.bfloat16), 1).dtype == jnp.bfloat16
    np.testing.assert_array_equal(soft_threshold(jnp.array([3.0, -9.0]), np.inf), 0)
    np.testing.assert_array_equal(jax.jacobian(soft_threshold)(jnp.zeros(2), 0.0), jnp.eye(2))


def test_soft_threshold_of_complex_numbers_has_the_derivative_of_differences():
    with jax.enable_x64(True):
        parts = jnp.array([1.2, -0.7])
        fun = lambda p, lam: jnp.abs(soft_threshold(jax.lax.complex(*p), lam) - 0.3) ** 2
        ahead = lambda p, lam, h: (fun(p, lam + h) - fun(p, lam - h)) / (2 * h)
        slopes = jax.grad(fun, (0, 1))(parts, 0.5)
        np.testing.assert_allclose(slopes[1], ahead(parts, 0.5, 1e-6), atol=1e-8)
        for i, unit in enumerate(jnp.eye(2)):
            up, down = fun(parts + 1e-6 * unit, 0.5), fun(parts - 1e-6 * unit, 0.5)
            np.testing.assert_allclose(slopes[0][i], (up - down) / 2e-6, atol=1e-8)


def test_soft_threshold_by_what_is_no_weight_is_no_number_or_refused():
    assert jnp.isnan(soft_threshold(jnp.ones(2), jnp.array([-1.0, jnp.nan]))).all()
    with pytest.raises(ValueError, match="soft_threshold needs lam >= 0, got lam=-"):
        soft_threshold(jnp.ones(2), -0.5)
    with pytest.raises(TypeError, match="soft_threshold needs a real lam, got complex"):
        soft_threshold(jnp.ones(2), 1j)


@pytest.mark.usefixtures("x64")
def test_the_simplex_has_the_jacobian_of_its_formula():
    x = jnp.array([0.6, 0.5, -2.0, 0.3])
    point = projections.simplex()(x)
    support = (point > 0).astype(x.dtype)
    expected = jnp.diag(support) - jnp.outer(support, support) / support.sum()
    np.testing.assert_allclose(jax.jacrev(projections.simplex())(x), expected, atol=1e-15)


_denoise = jax.jit(prox_tv1d)
SIGNALS = st.lists(
    st.floats(-5, 5, allow_subnormal=False).map(lambda v: round(v, 2)), min_size=12, max_size=12
)


@settings(deadline=None, max_examples=60)
@given(SIGNALS, st.sampled_from([0.0, 0.1, 0.5, 2.0, 50.0]))
def test_total_variation_fulfils_its_optimality_condition(signal, lam):
    with jax.enable_x64(True):
        x = jnp.asarray(signal, float)
        u = _denoise(x, lam)
        # x - u is the difference of a dual variable that is lambda at every jump, never more
        dual = jnp.cumsum(x - u)
        jumps = jnp.sign(jnp.diff(u))
        tolerance = 1e-12 * (1 + 12 * lam)
        assert jnp.all(jnp.abs(dual[:-1]) <= lam + tolerance)
        assert abs(dual[-1]) <= tolerance
        clear = jnp.abs(jnp.diff(u)) > tolerance
        np.testing.assert_allclose(jnp.where(clear, dual[:-1] + lam * jumps, 0), 0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_total_variation_has_the_right_derivatives():
    x = draw(10)
    assert len(set(np.asarray(_denoise(x, 0.3)).tolist())) > 2
    assert check_gradients(_denoise, (x, 0.3)).ok


def test_a_layer_may_be_unrolled():
    f = lambda y, z: (y - z) ** 2
    layer = argmin_layer(f, 0.0, solver=sgd(0.25), steps=2, diff=Unroll())
    np.testing.assert_allclose(jax.grad(lambda z: layer(z).sum())(jnp.ones(3)), 0.75, rtol=1e-6)
    assert argmin(f, 0.0, 1.0, solver=sgd(0.25), steps=2, diff=Implicit()).y == 0.75
