"""Systems of integers are systems of numbers: each solve takes them as floating ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import linalg

MATRIX = np.array([[4, 1], [1, 3]])
SOLUTION = np.array([1, 7]) / 11  # of the right-hand side (1, 2)


def matvec(v):
    return jnp.asarray(MATRIX, v.dtype) @ v


SOLVES = {
    "cg": lambda _, b: linalg.cg(matvec, b, tol=1e-6, max_steps=9).x,
    "normal_cg": lambda _, b: linalg.normal_cg(matvec, b, tol=1e-6, max_steps=9).x,
    "gmres": lambda _, b: linalg.gmres(matvec, b, tol=1e-6, max_steps=9).x,
    "truncated_cg": lambda _, b: -linalg.truncated_cg(matvec, b, tol=1e-6, max_steps=9).step,
    "neumann": lambda _, b: linalg.neumann(matvec, b, num_terms=60, step_size=0.3),
    "solve_symmetric": lambda a, b: linalg.solve_symmetric(a, b).x,
    "solve_square": lambda a, b: linalg.solve_square(a, b).x,
    "modified_cholesky_solve": linalg.modified_cholesky_solve,
    "saddle_free_solve": linalg.saddle_free_solve,
    "ball_minimum": lambda a, b: -linalg.ball_minimum(a, b, 9.0).step,
}


@pytest.mark.parametrize("kind", [jnp.asarray, np.asarray], ids=["jax", "numpy"])
@pytest.mark.parametrize("solve", SOLVES.values(), ids=SOLVES)
def test_integers_are_solved_as_floating_numbers(solve, kind):
    x = solve(kind(MATRIX), kind([1, 2]))
    assert x.dtype == jnp.result_type(float)
    # the condition of the matrix is 2.2; the Neumann series shrinks by 0.4 a term
    np.testing.assert_allclose(x, SOLUTION, rtol=1e-5)


@pytest.mark.parametrize("kind", [jnp.asarray, np.asarray], ids=["jax", "numpy"])
def test_factors_and_eigenvalues_of_integers_are_those_of_numbers(kind):
    u, _, vh = np.linalg.svd(MATRIX.astype(float))
    np.testing.assert_allclose(linalg.polar_factor(kind(MATRIX)), u @ vh, atol=1e-5)
    np.testing.assert_allclose(linalg.newton_schulz(kind(MATRIX), 12), u @ vh, atol=1e-4)
    largest = linalg.largest_eigenvalue(matvec, kind([1, 2]), num_steps=50)
    np.testing.assert_allclose(largest, (7 + np.sqrt(5)) / 2, rtol=1e-5)


def test_floating_ones_keep_their_precision():
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            b = jnp.array([1, 2], dtype)
            assert linalg.cg(matvec, b, tol=1e-6, max_steps=9).x.dtype == dtype
        assert linalg.cg(matvec, jnp.array([1, 2]), tol=1e-6, max_steps=9).x.dtype == jnp.float64
