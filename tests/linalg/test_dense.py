import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxopt_tut.linalg import solve_square, solve_symmetric

SOLVES = {"symmetric": jax.jit(solve_symmetric), "square": jax.jit(solve_square)}
EPS = 2.0**-23


def make(values, seed, left_is_right=True):
    """Return a matrix with these eigenvalues (or singular values), and orthogonal factors."""
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.standard_normal((len(values),) * 2))
    right = left if left_is_right else np.linalg.qr(rng.standard_normal(left.shape))[0]
    return (left * values) @ right.T, left, right, rng.standard_normal(len(values))


@pytest.mark.parametrize("name", SOLVES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rank=st.integers(0, 5), power=st.integers(-12, 12))
@example(seed=66, rank=1, power=0)  # a column of another size brings the null vectors together
@example(seed=421, rank=1, power=3)
def test_a_singular_matrix_has_the_solution_of_its_pseudoinverse(name, seed, rank, power):
    signs = np.array([1, -1, 1, 1, -1]) if seed % 2 else np.ones(5)
    values = np.where(np.arange(5) < rank, np.geomspace(1, 0.05, 5) * signs, 0)
    matrix, left, right, b = make(values, seed, left_is_right=name == "symmetric")
    inverse = np.where(values == 0, 0, 1 / np.where(values == 0, 1, values))
    expected = right @ (inverse * (left.T @ b))
    found = SOLVES[name](jnp.asarray(matrix * 4.0**power, "float32"), jnp.asarray(b, "float32"))
    # entries rounded at eps tilt the null space by eps / 0.05 and enter twice by 1 / 0.05
    atol = 20 * EPS * 20**2 * np.linalg.norm(b)
    np.testing.assert_allclose(found.x * 4.0**power, expected, atol=atol)
    assert found.is_regular == (rank == 5)
    assert found.is_definite == (name == "symmetric" and rank == 5 and seed % 2 == 0)


def test_variables_of_other_units_are_no_singularity():
    units = jnp.array([1e-4, 1e5, 1.0])
    core = jnp.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.5]])
    goal = jnp.array([1.0, 2.0, 3.0]) / units
    for solve in SOLVES.values():
        matrix = units[:, None] * core * units
        found = solve(matrix, units * (core @ jnp.array([1.0, 2.0, 3.0])))
        # the condition of the core is 8
        np.testing.assert_allclose(found.x, goal, rtol=100 * EPS)
        assert found.is_regular
        # and the units do not hide a variable that nothing depends on
        padded = jnp.pad(matrix, (0, 1))
        found = solve(padded, jnp.append(units * (core @ jnp.array([1.0, 2.0, 3.0])), 1.0))
        np.testing.assert_allclose(found.x, jnp.append(goal, 0.0), rtol=100 * EPS)
        assert not found.is_regular


@pytest.mark.parametrize("name", SOLVES)
@pytest.mark.parametrize("where", ["matrix", "b"])
def test_what_is_not_finite_is_no_solution(name, where):
    for value in (jnp.nan, jnp.inf):
        matrix, b = jnp.diag(jnp.array([1.0, 0.0])), jnp.ones(2)
        if where == "matrix":
            matrix = matrix.at[1, 1].set(value)
        else:
            b = b.at[0].set(value)
        found = SOLVES[name](matrix, b)
        assert not jnp.all(jnp.isfinite(found.x))
        assert not found.is_definite


def test_a_batch_may_mix_definite_and_singular_matrices():
    matrices = jnp.stack([jnp.diag(jnp.array([2.0, 4.0])), jnp.ones((2, 2))])
    for solve in SOLVES.values():
        found = jax.vmap(solve)(matrices, jnp.array([[2.0, 4.0], [2.0, 0.0]]))
        np.testing.assert_allclose(found.x, [[1.0, 1.0], [0.5, 0.5]], rtol=10 * EPS)
        np.testing.assert_array_equal(found.is_regular, [True, False])
