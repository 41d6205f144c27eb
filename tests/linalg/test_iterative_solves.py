import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.linalg import cg, gmres, largest_eigenvalue, neumann, normal_cg


def symmetric(eigenvalues, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    return jnp.asarray(q * np.asarray(eigenvalues) @ q.T), jnp.asarray(rng.standard_normal(len(q)))


@pytest.mark.usefixtures("x64")
def test_cg_needs_one_step_for_each_distinct_eigenvalue():
    matrix, b = symmetric([1.0, 1.0, 3.0, 3.0, 10.0, 10.0])
    found = cg(lambda v: matrix @ v, b, tol=1e-12, max_steps=50)
    np.testing.assert_allclose(found.x, jnp.linalg.solve(matrix, b), rtol=1e-10)
    assert found.num_products == 3
    assert found.is_definite
    assert found.residual_norm <= 1e-12 * jnp.linalg.norm(b)


@pytest.mark.usefixtures("x64")
def test_cg_turns_to_the_normal_equations_at_negative_curvature():
    matrix, b = symmetric([-4.0, -1.0, 0.5, 2.0, 5.0])
    found = cg(lambda v: matrix @ v, b, tol=1e-12, max_steps=400, turn=True)
    np.testing.assert_allclose(found.x, jnp.linalg.solve(matrix, b), rtol=1e-8)
    assert not found.is_definite
    stopped = cg(lambda v: matrix @ v, b, tol=1e-12, max_steps=400)
    assert stopped.residual_norm > 1e-3
    assert not stopped.is_definite


@pytest.mark.usefixtures("x64")
def test_both_find_the_shortest_solution_of_a_consistent_singular_system():
    matrix, b = symmetric([0.0, 1.0, 2.0, 3.0])
    b = matrix @ b
    for found in (
        cg(lambda v: matrix @ v, b, tol=1e-12, max_steps=99),
        normal_cg(lambda v: matrix @ v, b, tol=1e-12, max_steps=99),
    ):
        np.testing.assert_allclose(found.x, jnp.linalg.pinv(matrix) @ b, rtol=1e-8)


@pytest.mark.usefixtures("x64")
def test_normal_cg_approaches_least_squares_where_there_is_no_solution():
    matrix, b = symmetric([0.0, 1.0, 2.0, 3.0])
    found = normal_cg(lambda v: matrix @ v, b, tol=1e-10, max_steps=99)
    np.testing.assert_allclose(found.x, jnp.linalg.lstsq(matrix, b)[0], rtol=1e-6)
    turned = cg(lambda v: matrix @ (v + 0), b, tol=1e-10, max_steps=999, turn=True)
    projected = matrix @ found.x
    np.testing.assert_allclose(matrix @ turned.x, projected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_where_there_is_no_solution_the_turn_forgets_how_far_it_went_along_the_null_space():
    eigenvalues = np.concatenate([[0.0], np.geomspace(1e-2, 1, 30)])
    matrix, b = symmetric(eigenvalues)
    found = cg(lambda v: matrix @ v, b, tol=1e-10, max_steps=999, turn=True)
    nearest = jnp.linalg.lstsq(matrix, b)[0]
    # a residual r with |A r| <= 8 eps |r| is at most 8 eps / 1e-2 from that of least squares; what
    # is left is rounding, at a condition of 1e2 squared in the normal equations
    np.testing.assert_allclose(matrix @ found.x, matrix @ nearest, atol=1e4 * 2**-52 * 31)
    assert found.num_products < 400
    assert jnp.linalg.norm(found.x - nearest) < 10 * jnp.linalg.norm(nearest)


@pytest.mark.usefixtures("x64")
def test_a_zero_right_hand_side_has_the_solution_zero():
    for solve in (cg, normal_cg, gmres):
        found = solve(lambda v: 2 * v, jnp.zeros(3), tol=1e-6, max_steps=9)
        np.testing.assert_array_equal(found.x, 0)
        assert found.num_products == 0


def test_what_is_not_finite_is_no_solution():
    for solve in (cg, normal_cg, gmres):
        found = solve(lambda v: 2 * v, jnp.array([1.0, jnp.nan]), tol=1e-6, max_steps=9)
        assert jnp.isnan(found.x).any()


@pytest.mark.usefixtures("x64")
def test_vmap_is_a_loop():
    matrices = jnp.stack([symmetric(e)[0] for e in ([1.0, 2.0, 3.0], [-1.0, 2.0, 5.0])])
    b = jnp.array([[1.0, 2.0, 3.0], [3.0, 0.0, 1.0]])
    solve = lambda a, b: cg(lambda v: a @ v, b, tol=1e-12, max_steps=99, turn=True).x
    loop = jnp.stack([solve(a, c) for a, c in zip(matrices, b, strict=True)])
    np.testing.assert_allclose(jax.vmap(solve)(matrices, b), loop, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_neumann_leaves_a_power_of_the_iteration_matrix():
    matrix, b = symmetric([0.5, 1.0, 2.0])
    found = neumann(lambda v: matrix @ v, b, num_terms=6, step_size=0.3)
    left = np.linalg.matrix_power(np.eye(3) - 0.3 * np.asarray(matrix), 6) @ b
    np.testing.assert_allclose(b - matrix @ found, left, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_largest_eigenvalue_is_estimated_from_below():
    matrix, b = symmetric([-1.0, 2.0, 4.0])
    found = largest_eigenvalue(lambda v: matrix @ v, b, num_steps=40)
    # the error of a norm shrinks as the fourth power of the ratio of eigenvalues, 2 / 4
    np.testing.assert_allclose(found, 4.0, rtol=1e-12)
    assert largest_eigenvalue(lambda v: matrix @ v, b, num_steps=2) < 4


RNG = np.random.default_rng(2)
SQUARE = RNG.standard_normal((40, 40)) / np.sqrt(40)  # eigenvalues in the unit disc
SHIFT = np.roll(np.eye(40), 1, axis=0)
ASYMMETRIC = {
    "contraction": (np.eye(40) - 0.9 * SQUARE, 20),
    "disc": (SQUARE, 40),
    "skew": (SQUARE - SQUARE.T, 40),  # a residual is orthogonal to its image
    "shift": (SHIFT, 40),  # no step but the last gains anything
    "triangular": (np.triu(SQUARE) + 2 * np.eye(40), 10),
    "ill conditioned": (np.diag(np.geomspace(1e-6, 1, 40)) + 1e-7 * SQUARE, 40),
    "symmetric": (np.diag(np.linspace(1, 30, 40)), 40),
    "two eigenvalues": (np.diag([1.0, -5.0] * 20), 2),
}


@pytest.mark.parametrize("name", ASYMMETRIC)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("x64")
def test_gmres_comes_to_a_true_residual_within_the_tolerance(name, dtype):
    matrix, restart = ASYMMETRIC[name]
    matrix = jnp.asarray(matrix, dtype)
    b = jnp.asarray(np.random.default_rng(3).standard_normal(40), dtype)
    tol = 32 * float(jnp.finfo(dtype).eps)
    solve = jax.jit(lambda a, b: gmres(lambda v: a @ v, b, tol=tol, max_steps=800, restart=restart))
    found = solve(matrix, b)
    # in double precision, so that it is that of the solution and not of the look at it
    left = np.linalg.norm(
        np.asarray(matrix, float) @ np.asarray(found.x, float) - np.asarray(b, float)
    )
    # a residual cannot be told more closely than the roundings of the sum b - A x, of which there
    # are about sqrt(40), as large as ||A|| ||x||
    size = np.linalg.norm(matrix, 2) * np.linalg.norm(found.x)
    floor = float(jnp.finfo(dtype).eps) * np.sqrt(40) * size
    assert left <= tol * np.linalg.norm(b) + floor
    np.testing.assert_allclose(found.residual_norm, left, atol=2 * floor)


@pytest.mark.usefixtures("x64")
def test_gmres_needs_one_step_for_each_distinct_eigenvalue_and_a_look():
    matrix, b = symmetric([1.0, 1.0, 3.0, 3.0, -10.0, -10.0])
    found = gmres(lambda v: matrix @ v, b, tol=1e-12, max_steps=50)
    np.testing.assert_allclose(found.x, jnp.linalg.solve(matrix, b), rtol=1e-10)
    assert found.num_products == 4


@pytest.mark.usefixtures("x64")
def test_the_residual_of_gmres_is_the_smallest_in_the_space_of_products():
    matrix, b = SQUARE, jnp.asarray(np.random.default_rng(4).standard_normal(40))
    for steps in (1, 3, 7):
        found = gmres(lambda v: matrix @ v, b, tol=0.0, max_steps=steps, restart=40)
        space, _ = np.linalg.qr(
            np.stack([np.linalg.matrix_power(matrix, k) @ b for k in range(steps)], axis=1)
        )
        least = np.linalg.lstsq(matrix @ space, b, rcond=None)[1] ** 0.5
        np.testing.assert_allclose(found.residual_norm, least[0], rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_gmres_ends_where_rounds_gain_nothing():
    b = jnp.asarray(np.random.default_rng(5).standard_normal(40))
    singular = np.eye(40) - 0.9 * SQUARE
    singular[:, 0] = 0
    for matrix in (singular, SHIFT):
        found = gmres(lambda v, a=matrix: a @ v, b, tol=1e-10, max_steps=9999, restart=5)
        assert found.num_products < 400
        assert found.residual_norm > 1e-3
        left = np.linalg.norm(matrix @ np.asarray(found.x) - b)
        np.testing.assert_allclose(found.residual_norm, left, rtol=1e-10)
    none = gmres(lambda v: 0 * v, b, tol=1e-10, max_steps=9999)
    np.testing.assert_array_equal(none.x, 0)


@pytest.mark.usefixtures("x64")
def test_gmres_under_vmap_is_a_loop():
    matrices = jnp.stack([jnp.asarray(ASYMMETRIC[name][0]) for name in ("contraction", "shift")])
    b = jnp.asarray(np.random.default_rng(6).standard_normal((2, 40)))
    solve = lambda a, b: gmres(lambda v: a @ v, b, tol=1e-12, max_steps=300, restart=40).x
    loop = jnp.stack([solve(a, c) for a, c in zip(matrices, b, strict=True)])
    np.testing.assert_allclose(jax.vmap(solve)(matrices, b), loop, rtol=1e-8)
