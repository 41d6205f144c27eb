"""Quadratic programs in any units, against programs that were built around their solution."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel.layers import qp, qp_solution

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
_solve_all = jax.jit(jax.vmap(qp_solution))
DIM, EQUAL, UNEQUAL = 6, 2, 9


def build(rng, kind):
    """Choose a solution, multipliers and slacks, and the program that has them."""
    root = rng.standard_normal((DIM, DIM))
    P = root @ root.T / DIM + 0.1 * np.eye(DIM)
    A, G = rng.standard_normal((EQUAL, DIM)), rng.standard_normal((UNEQUAL, DIM))
    x, nu = rng.standard_normal(DIM), rng.standard_normal(EQUAL)
    count = rng.integers(0, DIM - EQUAL + 1)
    mu, slack = np.zeros(UNEQUAL), 0.05 + rng.exponential(size=UNEQUAL)
    if kind == "repeated rows":
        G[1], G[2], A[1], count = G[0], 2 * G[0], -3 * A[0], min(count, 3)
    mu[:count], slack[:count] = 0.05 + rng.exponential(size=count), 0
    if kind == "touched":
        slack[-2:] = 0
    if kind == "more than dimensions":
        slack[:-1], mu[:-1] = 0, rng.uniform(size=UNEQUAL - 1)
    q = -(P @ x + A.T @ nu + G.T @ mu)
    return [P, q, A, A @ x, G, G @ x + slack], x


def in_other_units(rng, program):
    """Return the program with every variable, row, the objective and lengths in units of its own.

    Powers of two, so that the program is the same up to no rounding at all.
    """
    P, q, A, b, G, h = program
    power = lambda *shape: 2.0 ** rng.integers(-20, 21, shape)  # 1e-6 to 1e6
    d, e, f, cost, length = power(DIM), power(EQUAL), power(UNEQUAL), power(), power()
    scaled = [cost * d[:, None] * P * d, cost * length * d * q, e[:, None] * A * d]
    scaled += [e * length * b, f[:, None] * G * d, f * length * h]
    return scaled, length / d


@pytest.mark.slow
@DTYPES
def test_a_program_has_its_solution_in_any_units(dtype):
    rng = np.random.default_rng(0)
    programs, expected, units = [], [], []
    for kind in ("generic", "repeated rows", "touched", "more than dimensions"):
        for _ in range(25):
            program, x = build(rng, kind)
            for scaled, unit in ((program, np.ones(DIM)), in_other_units(rng, program)):
                programs.append(scaled)
                expected.append(x)
                units.append(unit)
    with jax.enable_x64(dtype == "float64"):
        solution = _solve_all(*(np.array(a).astype(dtype) for a in zip(*programs, strict=True)))
        found = np.asarray(solution.x, float) / np.array(units)
    assert np.asarray(solution.info.converged).all()
    # rounding times the condition: 60 of P, some 30 of five rows in six dimensions
    np.testing.assert_allclose(found, expected, atol=2000 * np.finfo(dtype).eps)


def box(point, bound, dtype):
    dim = len(point)
    both = np.concatenate([np.eye(dim), -np.eye(dim)])
    h = np.concatenate([np.full(dim, bound), np.zeros(dim)])
    arguments = (np.eye(dim), -np.asarray(point), np.zeros((0, dim)), np.zeros(0), both, h)
    return [np.asarray(a, dtype) for a in arguments]


@DTYPES
def test_far_and_infinite_bounds_do_not_move_the_solution(dtype):
    points = [[5.0, 0.0, 0.3], [5.0, -1.0, 0.3], [0.2, -3.0, 0.1]]
    bounds = [1.0, 1e6, 1e8, 1e12, 1e20, 1e30, np.inf]
    cases = [(point, bound) for point in points for bound in bounds]
    with jax.enable_x64(dtype == "float64"):
        programs = zip(*(box(point, bound, dtype) for point, bound in cases), strict=True)
        solution = _solve_all(*(np.array(a) for a in programs))
    assert np.asarray(solution.info.converged).all()
    expected = [np.clip(point, 0, bound) for point, bound in cases]
    np.testing.assert_allclose(solution.x, expected, atol=20 * np.finfo(dtype).eps)


@pytest.mark.slow
@DTYPES
def test_a_small_objective_is_minimised_as_a_large_one(dtype):
    point = np.array([5.0, 0.0, 0.3])
    make = lambda scale, row: [
        np.asarray(a, dtype)
        for a in (
            scale * np.eye(3),
            -scale * point,
            row * np.ones((1, 3)),
            row * np.ones(1),
            -row * np.eye(3),
            np.zeros(3),
        )
    ]
    scales = [(c, row) for c in (1e-25, 1e-6, 1.0, 1e12) for row in (1e-12, 1.0, 1e12)]
    with jax.enable_x64(dtype == "float64"):
        programs = zip(*(make(*scale) for scale in scales), strict=True)
        solution = _solve_all(*(np.array(a) for a in programs))
    assert np.asarray(solution.info.converged).all()
    expected = np.tile([1.0, 0, 0], (len(scales), 1))
    np.testing.assert_allclose(solution.x, expected, atol=20 * np.finfo(dtype).eps)


EYE, BOTH = np.eye(2), np.concatenate([np.eye(2), -np.eye(2)])
ZEROS = (np.zeros((0, 2)), np.zeros(0))
NO_ANSWER = {  # P, q, h; with x <= h[:2] and x >= -h[2:]
    "contradiction": (EYE, [1, 1], [-1, 1, -1, 1]),
    "contradiction beside a free direction": (np.diag([1.0, 0]), [0, 0], [-1, 1e30, -1, np.inf]),
    "contradiction beside a far bound": (np.diag([1.0, 0]), [0, -1], [-1, 1e8, -1, 1e8]),
    "no lower bound": (np.diag([1.0, 0]), [0, -1], [1, np.inf, 1, 1]),
    "negative curvature": (-EYE, [0.1, 0.2], [1, 1, 1, 1]),
    "saddle": ([[1, 2], [2, 1]], [0, 0], [1, 1, 1, 1]),
    "nan in q": (EYE, [np.nan, 1], [1, 1, 1, 1]),
    "nan in P": (EYE * np.nan, [1, 1], [1, 1, 1, 1]),
    "nan in h": (EYE, [1, 1], [np.nan, 1, 1, 1]),
    "infinite q": (EYE, [np.inf, 1], [1, 1, 1, 1]),
    "bound of minus infinity": (EYE, [1, 1], [-np.inf, 1, 1, 1]),
}


@pytest.mark.parametrize(("P", "q", "h"), NO_ANSWER.values(), ids=NO_ANSWER)
def test_a_program_without_an_answer_says_so(P, q, h):
    arguments = [np.asarray(a, np.float32) for a in (P, q, *ZEROS, BOTH, h)]
    with pytest.warns(RuntimeWarning, match="qp has not converged"):
        x = qp(*arguments)
    assert jnp.isnan(x).all()
    solution = qp_solution(*arguments)
    assert not solution.info.converged
    assert jnp.isnan(solution.inequality_multipliers).all()


def test_no_warning_comes_from_within_transformations_and_derivatives_are_no_numbers():
    h = jnp.array([-1.0, 1, -1, 1])
    solve = lambda h: qp(jnp.eye(2), jnp.ones(2), *map(jnp.array, (*ZEROS, BOTH)), h)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, pull = jax.vjp(jax.jit(solve), h)
    assert jnp.isnan(x).all()
    assert jnp.isnan(pull(jnp.ones(2))[0]).any()


ANSWERS = {  # P, q, h, x
    "origin on a corner": (EYE, [1, 1], [1, 1, 0, 0], [0, 0]),
    "nothing to do": (EYE, [0, 0], [1, 1, 1, 1], [0, 0]),
    "a point": (EYE, [-5, 3], [1, 2, -1, -2], [1, 2]),
    "linear": (0 * EYE, [-1, 2], [1, 1, 1, 1], [1, -1]),
    "flat direction": (np.diag([1.0, 0]), [-0.5, -1], [1, 1, 1, 1], [0.5, 1]),
    "asymmetric": ([[2, 2], [0, 2]], [-2, -1], [9, 9, 9, 9], [1, 0]),
    "tiny": (EYE, [-5e-20, 3e-20], [1, 1, 1, 1], [5e-20, -3e-20]),
    "steep": (EYE, [-5e20, 3e20], [1, 1, 1, 1], [1, -1]),
    "far from the origin": (EYE, [-1e6, -1e6 - 3], [1e6 + 1, 1e6 + 1, -1e6, -1e6], [1e6, 1e6 + 1]),
    "no bounds": (EYE, [1, 2], [np.inf] * 4, [-1, -2]),
}


@pytest.mark.parametrize(("P", "q", "h", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_programs_at_the_edge_have_their_answer(P, q, h, expected):
    x = qp(*(np.asarray(a, np.float32) for a in (P, q, *ZEROS, BOTH, h)))
    size = np.abs(expected).max()
    np.testing.assert_allclose(x, expected, rtol=0, atol=2e-7 * size if size else 1e-20)


def test_equations_may_repeat_and_rows_may_be_zero():
    solve = lambda A, b: qp(jnp.eye(2), jnp.ones(2), jnp.array(A), jnp.array(b))
    np.testing.assert_allclose(solve([[1.0, 1], [2, 2]], [1.0, 2]), [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(solve([[1.0, 1], [0, 0]], [0.0, 0]), [0, 0], atol=1e-6)
    for bad in ([1.0, 3], [0.0, np.inf]):
        with pytest.warns(RuntimeWarning, match="relative residuals|a number that is none"):
            assert jnp.isnan(solve([[1.0, 1], [2, 2]], bad)).all()


def test_other_kinds_of_numbers():
    x = qp(np.eye(2, dtype=int), np.array([1, 2]))
    np.testing.assert_array_equal(x, [-1, -2])
    halves = qp(jnp.eye(2, dtype=jnp.bfloat16), jnp.ones(2, jnp.bfloat16))
    assert halves.dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="qp needs real numbers, got complex64"):
        qp(jnp.eye(2, dtype=jnp.complex64), jnp.ones(2))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_derivatives_are_those_of_differences_in_any_units():
    rng = np.random.default_rng(3)
    solve = jax.jit(qp)
    for _ in range(3):
        program, _ = build(rng, "generic")
        scaled, unit = in_other_units(rng, program)
        slopes = [s * rng.standard_normal(s.shape) for s in scaled]
        moved = lambda t, scaled=scaled, slopes=slopes: [
            s + t * d for s, d in zip(scaled, slopes, strict=True)
        ]
        h = 1e-6  # truncation h^2, rounding eps / h
        central = (solve(*moved(h)) - solve(*moved(-h))) / (2 * h) / unit
        tangent = jax.jvp(solve, tuple(scaled), tuple(slopes))[1] / unit
        np.testing.assert_allclose(tangent, central, rtol=1e-5, atol=1e-7)
        weight = rng.standard_normal(DIM) / unit
        grads = jax.vjp(solve, *scaled)[1](jnp.asarray(weight))
        inner = sum(float(jnp.sum(g * d)) for g, d in zip(grads, slopes, strict=True))
        np.testing.assert_allclose(inner, weight @ (tangent * unit), rtol=1e-9)
