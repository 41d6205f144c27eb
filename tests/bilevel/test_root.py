"""Equations and fixed points: solved by every solver, differentiated as their condition says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import (
    Anderson,
    Bisection,
    Broyden,
    Dense,
    Implicit,
    Neumann,
    Newton,
    NewtonKrylov,
    OneStep,
    Picard,
    Truncate,
    Unroll,
    fixed_point,
    hypergrad,
    root,
)
from jaxopt_tut.optimizers import sgd

ROOT_SOLVERS = {"newton": Newton(), "broyden": Broyden(), "krylov": NewtonKrylov()}
POINT_SOLVERS = {"picard": Picard(), "damped": Picard(0.2), "anderson": Anderson(3)}
each_root_solver = pytest.mark.parametrize("solver", ROOT_SOLVERS.values(), ids=ROOT_SOLVERS)
each_point_solver = pytest.mark.parametrize("solver", POINT_SOLVERS.values(), ids=POINT_SOLVERS)
each_precision = pytest.mark.parametrize("is_double", [False, True], ids=["float32", "float64"])

MATRIX = np.array([[4.0, -1.0, 0.5], [1.0, 3.0, -2.0], [0.0, 1.0, 5.0]])  # not symmetric


def mixed(y, z):
    """Three equations in a tree, whose solution at z = 0 is 0."""
    x = jnp.concatenate([y["a"], y["b"][None]])
    r = jnp.asarray(MATRIX, x.dtype) @ x + jnp.sin(x) ** 2 - z
    return {"a": r[:2], "b": r[2]}


START = {"a": jnp.array([0.3, -0.2]), "b": jnp.array(0.1)}


def exact_derivative(y):
    """Return dy/dz of `mixed` by the formula, in NumPy."""
    x = np.concatenate([y["a"], [y["b"]]]).astype(float)
    return np.linalg.inv(MATRIX + np.diag(np.sin(2 * x)))


def contraction(y, z):
    return 0.5 * jnp.tanh(jnp.asarray(MATRIX / 8, y.dtype) @ y) + z


@each_root_solver
@each_precision
def test_finds_the_root_and_its_derivative(solver, is_double):
    with jax.enable_x64(is_double):
        dtype = jnp.float64 if is_double else jnp.float32
        start = jax.tree.map(lambda leaf: leaf.astype(dtype), START)
        z = jnp.array([0.4, -0.3, 0.8], dtype)
        solve = lambda z: root(mixed, start, z, solver=solver, steps=25)
        result = solve(z)
        eps = float(jnp.finfo(dtype).eps)
        # a residual of some roundings of terms of size 5, times the inverse matrix of norm .4
        assert bool(result.info.converged)
        assert result.info.inner_residual <= 50 * eps
        flat = lambda y: jnp.concatenate([y["a"], y["b"][None]])
        exact = exact_derivative(jax.tree.map(np.asarray, result.y))
        for jacobian in (jax.jacfwd, jax.jacrev):
            found = jacobian(lambda z: flat(solve(z).y))(z)
            np.testing.assert_allclose(found, exact, rtol=0, atol=100 * eps)


@pytest.mark.usefixtures("x64")
@each_root_solver
def test_second_derivatives_are_those_of_the_root(solver):
    # y^3 + y = z: dy/dz = 1 / (3 y^2 + 1), and d2y/dz2 = -6 y / (3 y^2 + 1)^3
    solve = lambda z: root(lambda y, z: y**3 + y - z, 0.5, z, solver=solver, steps=30).y
    z = 2.0 * 8 + 2.0 - 8.0  # y = 2
    first, second = jax.grad(solve)(z), jax.grad(jax.grad(solve))(z)
    np.testing.assert_allclose(solve(z), 2.0, rtol=1e-12)
    np.testing.assert_allclose(first, 1 / 13, rtol=1e-12)
    np.testing.assert_allclose(second, -12 / 13**3, rtol=1e-11)
    np.testing.assert_allclose(jax.jvp(jax.grad(solve), (z,), (1.0,))[1], second, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "solver", [Newton(), Picard(), Anderson(3)], ids=["newton", "picard", "anderson"]
)
def test_differentiated_steps_come_to_the_derivative_of_the_condition(solver):
    z = jnp.array([0.4, -0.3, 0.8])
    if isinstance(solver, Newton):
        run = lambda z, mode: root(
            lambda y, z: y - contraction(y, z), jnp.zeros(3), z, steps=12, solver=solver, diff=mode
        )
    else:
        run = lambda z, mode: fixed_point(
            contraction, jnp.zeros(3), z, steps=60, solver=solver, diff=mode
        )
    derivative = lambda mode: jax.jacrev(lambda z: run(z, mode).y)(z)
    exact = derivative(Implicit())
    np.testing.assert_allclose(derivative(Unroll()), exact, atol=1e-10)
    if isinstance(solver, Newton):  # whose last step does not feel the one before
        np.testing.assert_allclose(derivative(OneStep()), exact, atol=1e-10)


@pytest.mark.usefixtures("x64")
@each_point_solver
def test_finds_the_fixed_point_and_its_derivative(solver):
    z = jnp.array([0.4, -0.3, 0.8])
    solve = lambda z: fixed_point(contraction, jnp.zeros(3), z, solver=solver, steps=100)
    result = solve(z)
    np.testing.assert_allclose(contraction(result.y, z), result.y, atol=1e-14)
    slope = 1 - np.tanh(MATRIX / 8 @ np.asarray(result.y)) ** 2
    exact = np.linalg.inv(np.eye(3) - 0.5 * slope[:, None] * MATRIX / 8)
    np.testing.assert_allclose(jax.jacrev(lambda z: solve(z).y)(z), exact, atol=1e-13)
    np.testing.assert_allclose(jax.jacfwd(lambda z: solve(z).y)(z), exact, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_neumann_is_backpropagation_through_the_last_applications():
    z = jnp.array([0.4, -0.3, 0.8])
    run = lambda z, mode: (
        fixed_point(contraction, jnp.zeros(3), z, solver=Picard(), steps=60, diff=mode).y
    )
    for k in (1, 3):
        series = jax.jacrev(lambda z: run(z, Implicit(Neumann(k, step_size=1.0))))(z)  # noqa: B023
        y = run(z, Implicit())

        def last(z):
            x = jax.lax.stop_gradient(y)  # noqa: B023
            for _ in range(k):  # noqa: B023
                x = contraction(x, z)
            return x

        np.testing.assert_allclose(series, jax.jacrev(last)(z), atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_anderson_solves_an_affine_map_in_as_many_steps_as_unknowns():
    # which Picard's iteration does not contract: an eigenvalue of the map is -2
    matrix = jnp.array([[-2.0, 0.3], [0.1, 0.5]])
    affine = lambda y, z: matrix @ y + z
    z = jnp.array([1.0, 2.0])
    result = fixed_point(affine, jnp.zeros(2), z, solver=Anderson(4), steps=5)
    np.testing.assert_allclose(result.y, np.linalg.solve(np.eye(2) - matrix, z), rtol=1e-10)
    diverged = fixed_point(affine, jnp.zeros(2), z, solver=Picard(), steps=2000)
    assert not bool(diverged.info.converged)


@pytest.mark.parametrize(
    "run",
    [
        lambda z: root(lambda y, z: y**2 - z, 1.0, z, solver=Newton(), steps=12),
        lambda z: root(lambda y, z: y**2 - z, 1.0, z, solver=Broyden(), steps=20, tol=1e-5),
        lambda z: root(lambda y, z: y**2 - z, 1.0, z, solver=NewtonKrylov(), steps=12, tol=1e-5),
        lambda z: root(lambda y, z: y**2 - z, 1.0, z, solver=Bisection(0.0, 9.0), steps=30),
        lambda z: fixed_point(
            lambda y, z: 0.5 * (y + z / y), 1.0, z, solver=Anderson(2), steps=20, tol=1e-5
        ),
    ],
    ids=["newton", "broyden", "krylov", "bisection", "anderson"],
)
def test_vmap_equals_the_loop_and_jit_equals_eager(run):
    zs = jnp.array([1.0, 2.0, 9.0, 30.0])
    together, derivatives = jax.vmap(run)(zs), jax.vmap(jax.grad(lambda z: run(z).y))(zs)
    np.testing.assert_allclose(together.y, np.sqrt(zs), rtol=1e-6)
    np.testing.assert_allclose(derivatives, 0.5 / np.sqrt(zs), rtol=1e-5)
    alone = [run(z) for z in zs]
    np.testing.assert_allclose(together.y, [result.y for result in alone], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(run)(zs[1]).y, alone[1].y, rtol=1e-7)


def test_bisection_halves_many_brackets_at_once_and_flags_those_without_a_change_of_sign():
    run = lambda low, high: root(
        lambda y, z: y**3 - z, 0.0, 8.0, solver=Bisection(low, high), steps=40
    )
    results = jax.vmap(run)(jnp.array([0.0, -5.0, 3.0, 2.0]), jnp.array([5.0, 9.0, 7.0, 4.0]))
    np.testing.assert_array_equal(results.info.converged, [True, True, False, True])
    np.testing.assert_allclose(results.y[jnp.array([0, 1, 3])], 2.0, rtol=1e-6)
    assert abs(float(results.y[2]) - 3.0) < 1e-5 or abs(float(results.y[2]) - 7.0) < 1e-5
    # an array of unknowns: as many brackets
    result = root(
        lambda y, z: y**3 - z,
        jnp.zeros(3),
        jnp.array([1.0, 8.0, 27.0]),
        solver=Bisection(0.0, 5.0),
        steps=30,
    )
    np.testing.assert_allclose(result.y, [1.0, 2.0, 3.0], rtol=1e-6)


def test_where_there_is_no_root_the_flag_says_so_and_the_loop_ends():
    for solver in ROOT_SOLVERS.values():
        result = root(lambda y, z: y**2 + z, jnp.array([1.0, 2.0]), 1.0, solver=solver, steps=60)
        assert not bool(result.info.converged)
        assert bool(jnp.all(jnp.isfinite(result.y)))


def test_a_singular_jacobian_at_the_start_is_no_end():
    # both columns vanish at y = 0, where Newton's step is not defined
    result = root(
        lambda y, z: y**3 + y**2 - z, jnp.array([1e-4, 0.0]), 2.0, solver=Newton(), steps=60
    )
    assert not bool(jnp.any(jnp.isnan(result.y)))


@pytest.mark.usefixtures("x64")
def test_hypergrad_certifies_a_root():
    outer = lambda y, z: jnp.sum(y**2) + z[0]
    F = lambda y, z: jnp.asarray(MATRIX) @ y - z
    z = jnp.array([1.0, 2.0, 3.0])
    value, grads, info = hypergrad(
        outer, F, jnp.zeros(3), z, solver=Newton(), steps=3, diff=Implicit(), certify=True
    )
    y = np.linalg.solve(MATRIX, z)
    np.testing.assert_allclose(value, y @ y + 1, rtol=1e-12)
    np.testing.assert_allclose(grads["z"], 2 * np.linalg.solve(MATRIX.T, y) + [1, 0, 0], rtol=1e-12)
    assert bool(info.converged)
    assert info.linear_residual < 1e-12
    assert info.error_estimate < 1e-10


def test_hypergrad_says_that_a_root_has_not_been_reached():
    with pytest.warns(match="it has not converged"):
        *_, info = hypergrad(
            lambda y, _: y**2,
            lambda y, z: y**3 - z,
            1.0,
            8.0,
            solver=Newton(),
            steps=1,
            diff=Implicit(),
        )
    assert not bool(info.converged)
    with pytest.raises(ValueError, match=r"^root needs a converged inner problem under check=True"):
        root(lambda y, z: y**3 - z, 1.0, 8.0, steps=1, check=True)


def test_what_a_closure_would_lose_raises():
    lost = lambda w: root(lambda y, z: y - w * z, 0.0, 2.0, steps=3).y
    with pytest.raises(
        ValueError, match=r"^root under Implicit needs .* as an argument, got a diff"
    ):
        jax.grad(lost)(3.0)
    handed = lambda w: root(lambda y, z: y - z["w"] * z["x"], 0.0, {"w": w, "x": 2.0}, steps=3).y
    np.testing.assert_allclose(jax.grad(handed)(3.0), 2.0)


def test_damping_may_be_traced_and_swept():
    run = lambda d: fixed_point(lambda y, z: -0.9 * y + z, 0.0, 1.0, solver=Picard(d), steps=30)
    residuals = jax.vmap(lambda d: run(d).info.inner_residual)(jnp.array([0.0, 0.4]))
    assert residuals[1] < 1e-3 * residuals[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: root(lambda y, _: y, 1.0, 1.0, solver=sgd(0.1), steps=3),
            TypeError,
            r"^root needs one of Newton\(\), ",
        ),
        (
            lambda: root(lambda y, _: y, 1.0, 1.0, solver=Picard(), steps=3),
            TypeError,
            "^root needs one of Newton",
        ),
        (
            lambda: fixed_point(lambda y, _: y, 1.0, 1.0, solver=Newton(), steps=3),
            TypeError,
            "^fixed_point needs one of Picard",
        ),
        (lambda: root(lambda y, _: y[:1], jnp.ones(2), 1.0, steps=3), ValueError, r"^root needs "),
        (
            lambda: root(lambda y, _: {"a": y}, jnp.ones(2), 1.0, steps=3),
            ValueError,
            r"^root needs ",
        ),
        (
            lambda: root(lambda y, _: y, 1, 1.0, steps=3),
            TypeError,
            "^root needs floating or complex",
        ),
        (
            lambda: root(lambda y, _: y, 1.0, 1.0, steps=-1),
            ValueError,
            "^root needs a whole number steps >= 0",
        ),
        (lambda: Anderson(0), ValueError, "^Anderson needs a whole number memory >= 1"),
        (
            lambda: root(lambda y, z: y - z, 1.0, 1.0, steps=3, diff=Newton()),
            TypeError,
            "^root needs one of the modes",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_linear_solve_for_symmetric_systems_says_what_takes_others():
    from jaxopt_tut.bilevel import CG

    solve = lambda z: root(lambda y, z: y - z, jnp.ones(2), z, steps=3, diff=Implicit(CG())).y.sum()
    with pytest.raises(ValueError, match=r"^CG needs a symmetric system, got .*; AutoSolve"):
        jax.grad(solve)(1.0)
    dense = lambda z: root(
        lambda y, z: y - z, jnp.ones(2), z, steps=3, diff=Implicit(Dense())
    ).y.sum()
    np.testing.assert_allclose(jax.grad(dense)(1.0), 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    "mode", [Unroll(), Truncate(20), Implicit()], ids=lambda m: type(m).__name__
)
def test_steps_of_anderson_beyond_convergence_do_not_follow_rounding(mode):
    w = np.array([[0.4, -0.2], [0.3, 0.1]])
    shift = np.array([1.0, -0.5])
    mapped = lambda y, w: jnp.tanh(w @ y + jnp.asarray(shift, y.dtype))

    def squares(w):
        run = fixed_point(mapped, jnp.zeros(2), w, solver=Anderson(), steps=60, diff=mode)
        return jnp.sum(run.y**2)

    y = np.zeros(2)
    for _ in range(200):
        y = np.tanh(w @ y + shift)
    slope = (1 - y**2)[:, None]
    adjoint = np.linalg.solve(np.eye(2) - (slope * w).T, 2 * y)
    # a contraction by .5 gathers roundings of two steps
    expected = np.outer(adjoint * slope[:, 0], y)
    found = jax.grad(squares)(jnp.asarray(w, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=64 * np.finfo(np.float32).eps)
