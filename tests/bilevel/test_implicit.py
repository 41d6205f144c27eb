import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.autodiff import check_gradients
from jaxopt_tut.bilevel import (
    CG,
    GMRES,
    AutoSolve,
    Dense,
    HypergradientWarning,
    Implicit,
    LeastSquares,
    Minimize,
    Neumann,
    NormalCG,
    Proximal,
    argmin,
    hypergrad,
)
from jaxopt_tut.optimizers import lbfgs, sgd
from tests.bilevel.problems import RATE, make_ridge

SOLVES = {
    "auto_dense": AutoSolve(),
    "auto_iterative": AutoSolve(dense_size=0),
    "cg": CG(),
    "normal_cg": NormalCG(),
    "gmres": GMRES(),
    "dense": Dense(),
    "least_squares": LeastSquares(),
    "neumann": Neumann(600),
    "jax_scipy": lambda matvec, b: jax.scipy.sparse.linalg.cg(matvec, b, tol=1e-14),
}
Z = -1.0


@pytest.mark.parametrize("name", SOLVES)
@pytest.mark.usefixtures("x64")
def test_matches_the_closed_form_of_ridge(name):
    ridge = make_ridge()
    closed = jax.grad(lambda z: ridge.outer(ridge.solution(z), z))(Z)
    mode = Implicit(SOLVES[name])
    _, grads, info = jax.jit(
        lambda z: hypergrad(
            ridge.outer, ridge.f, ridge.start, z, solver=sgd(RATE), steps=400, diff=mode
        )
    )(Z)
    np.testing.assert_allclose(grads["z"], closed, rtol=1e-8)
    assert info.converged
    assert info.linear_residual < 1e-10


@pytest.mark.parametrize("name", ["auto_dense", "cg"])
@pytest.mark.usefixtures("x64")
def test_both_directions_and_the_second_derivative_match_the_closed_form_of_ridge(name):
    ridge = make_ridge()
    mode = Implicit(SOLVES[name])

    def value(z):
        y = argmin(ridge.f, ridge.start, z, solver=sgd(RATE), steps=400, diff=mode).y
        return ridge.outer(y, z)

    def all_orders(fun):
        forward = lambda z: jax.jvp(fun, (z,), (1.0,))[1]
        return jax.jit(lambda z: (jax.grad(fun)(z), forward(z), jax.jacfwd(jax.grad(fun))(z)))(Z)

    reverse, forward, second = all_orders(value)
    closed, _, closed_second = all_orders(lambda z: ridge.outer(ridge.solution(z), z))
    np.testing.assert_allclose(reverse, closed, rtol=1e-8)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)
    np.testing.assert_allclose(second, closed_second, rtol=1e-7)


SLOWER = ["cg", "dense", "least_squares", "gmres"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "auto_dense",
        "auto_iterative",
        "normal_cg",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER),
    ],
)
@pytest.mark.usefixtures("x64")
def test_derivatives_of_both_orders_match_finite_differences(name):
    start = jnp.array([0.1, 0.2, -0.3])

    def f(y, z):
        return jnp.sum(jnp.cosh(y)) + 0.5 * jnp.dot(y, y) * z["scale"] ** 2 - jnp.dot(y, z["pull"])

    @jax.jit
    def solve(z):
        # converged to the last bit, or finite differences see the inner residual
        mode = Implicit(SOLVES[name])
        return argmin(f, start, z, solver=sgd(0.3), steps=120, diff=mode).y

    z = {"scale": jnp.float64(0.7), "pull": jnp.array([1.0, -0.5, 2.0])}
    assert check_gradients(solve, (z,), order=2).ok


@pytest.mark.slow
def test_single_precision_is_within_a_thousandth():
    ridge = make_ridge("float32")
    closed = jax.grad(lambda z: ridge.outer(ridge.solution(z), z))(Z)
    _, grads, info = hypergrad(
        ridge.outer, ridge.f, ridge.start, Z, solver=sgd(RATE), steps=400, diff=Implicit(CG())
    )
    np.testing.assert_allclose(grads["z"], closed, rtol=1e-3)
    assert info.converged


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_vmap_over_tasks_is_a_loop():
    ridge = make_ridge()
    zs = jnp.linspace(-2.0, 1.0, 64)

    def gradient(z):
        mode = Implicit(AutoSolve(dense_size=0))
        return hypergrad(
            ridge.outer, ridge.f, ridge.start, z, solver=sgd(RATE), steps=200, diff=mode
        )[1]["z"]

    one = jax.jit(gradient)
    loop = jnp.stack([one(z) for z in zs])
    # the tasks' products are summed in another order
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(zs), loop, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_an_indefinite_system_is_solved_and_flagged():
    # the saddle of f at 0, reached by a solver that does not move
    curvature = jnp.array([1.0, -2.0])
    f = lambda y, z: 0.5 * jnp.sum(curvature * y**2) + jnp.dot(y, z)
    outer = lambda y, _: jnp.dot(y, jnp.array([3.0, 5.0]))
    for solve in (AutoSolve(), AutoSolve(dense_size=0)):
        with pytest.warns(HypergradientWarning, match="does not curve upwards in every direction"):
            _, grads, info = hypergrad(
                outer, f, jnp.zeros(2), jnp.zeros(2), solver=sgd(0.1), steps=0, diff=Implicit(solve)
            )
        np.testing.assert_allclose(grads["z"], [-3.0, 2.5], rtol=1e-12)
        assert not info.is_definite
    with pytest.warns(HypergradientWarning, match=r"a linear residual of .* after 1 products"):
        _, _, info = hypergrad(
            outer, f, jnp.zeros(2), jnp.zeros(2), solver=sgd(0.1), steps=0, diff=Implicit(CG())
        )
    assert not info.is_definite
    assert info.linear_residual > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_singular_system_is_flagged_and_least_squares_takes_the_shortest():
    # f sees the sum of y alone: the solution moves by z / 2 in each of both
    f = lambda y, z: 0.5 * (jnp.sum(y) - z) ** 2
    outer = lambda y, _: y[0] + 3 * y[1]
    solve = lambda mode: hypergrad(outer, f, jnp.zeros(2), 1.0, solver=sgd(0.5), steps=1, diff=mode)
    for mode in (Implicit(LeastSquares()), Implicit(), Implicit(Dense()), Implicit(NormalCG())):
        with pytest.warns(HypergradientWarning, match="the linear system has no solution"):
            _, grads, info = solve(mode)
        np.testing.assert_allclose(grads["z"], 2.0, rtol=1e-12)
        # 3 y_1 - y_0 has no derivative: it is said
        assert info.linear_residual > 0.1
        assert not info.converged


@pytest.mark.usefixtures("x64")
def test_damping_is_added_to_the_matrix():
    f = lambda y, z: y**2 - 2 * z * y
    _, grads, _ = hypergrad(
        lambda y, _: y, f, 0.0, 1.0, solver=sgd(0.5), steps=1, diff=Implicit(damping=2.0)
    )
    assert grads["z"] == 0.5


@pytest.mark.usefixtures("x64")
def test_neumann_errs_by_its_law():
    curvature, rate, num_terms = 2.0, 0.1, 7
    f = lambda y, z: 0.5 * curvature * (y - z) ** 2
    mode = Implicit(Neumann(num_terms, step_size=rate))
    _, grads, info = hypergrad(lambda y, _: y, f, 3.0, 3.0, solver=sgd(rate), steps=1, diff=mode)
    missing = (1 - rate * curvature) ** num_terms
    np.testing.assert_allclose(1 - grads["z"], missing, rtol=1e-12)
    np.testing.assert_allclose(info.linear_residual, missing, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_any_solver_will_do():
    ridge = make_ridge()
    closed = jax.grad(lambda z: ridge.outer(ridge.solution(z), z))(Z)
    _, grads, info = hypergrad(
        ridge.outer,
        ridge.f,
        ridge.start,
        Z,
        solver=Minimize(lbfgs()),
        steps=100,
        diff=Implicit(),
        tol=1e-10,
    )
    assert info.converged
    np.testing.assert_allclose(grads["z"], closed, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_orthonormal_lasso_matches_its_formula():
    rng = np.random.default_rng(1)
    matrix, _ = np.linalg.qr(rng.standard_normal((8, 4)))
    target = jnp.asarray(rng.standard_normal(8))
    correlation = matrix.T @ target
    soft = lambda y, z, rate: jnp.sign(y) * jnp.maximum(jnp.abs(y) - rate * z, 0)
    f = lambda y, _: 0.5 * jnp.sum((matrix @ y - target) ** 2)
    z = 0.6 * float(jnp.median(jnp.abs(correlation)))
    active = jnp.abs(correlation) > z
    assert active.sum() > 0
    result = lambda z: argmin(
        f, jnp.zeros(4), z, solver=Proximal(soft, 0.7), steps=90, diff=Implicit()
    )
    np.testing.assert_allclose(result(z).y, soft(correlation, z, 1.0), atol=1e-12)
    expected = jnp.where(active, -jnp.sign(correlation), 0)
    for jacobian in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(jacobian(lambda z: result(z).y)(z), expected, atol=1e-12)
    assert result(z).info.converged


@pytest.mark.slow
def test_a_run_that_has_not_converged_says_so():
    ridge = make_ridge("float32")
    call = lambda **options: hypergrad(
        ridge.outer, ridge.f, ridge.start, Z, solver=sgd(0.01), steps=3, diff=Implicit(), **options
    )
    with pytest.warns(HypergradientWarning, match=r"an inner residual of .* after 3 steps"):
        assert not call()[2].converged
    with pytest.raises(ValueError, match="hypergrad needs a converged inner problem"):
        call(check=True)

    def compiled():
        jax.block_until_ready(jax.jit(lambda: call(check=True))())
        jax.effects_barrier()

    with pytest.raises(jax.errors.JaxRuntimeError, match="needs a converged inner problem"):
        compiled()


def test_a_run_that_diverges_says_so():
    ridge = make_ridge("float32")
    result = argmin(ridge.f, ridge.start, Z, solver=sgd(1e3), steps=40, diff=Implicit())
    assert not result.info.converged


def test_negative_damping_is_refused():
    with pytest.raises(ValueError, match=r"Implicit needs damping >= 0 .* got damping=-1"):
        Implicit(damping=-1.0)


def test_an_unknown_solve_is_refused():
    with pytest.raises(TypeError, match=r"Implicit needs a linear solve .* got solve='cg'"):
        Implicit("cg")


def test_an_empty_series_is_refused():
    with pytest.raises(ValueError, match="Neumann needs k >= 1 terms, a whole number, got k=0"):
        Neumann(0)


def test_cg_refuses_the_system_of_a_proximal_step():
    solver = Proximal(lambda y, *_: jnp.maximum(y, 0), 0.1)
    f = lambda y, z: jnp.sum((y - z) ** 2)
    with pytest.raises(ValueError, match="CG needs a symmetric system"):
        hypergrad(
            lambda y, _: jnp.sum(y),
            f,
            jnp.zeros(2),
            jnp.ones(2),
            solver=solver,
            steps=2,
            diff=Implicit(CG()),
        )
