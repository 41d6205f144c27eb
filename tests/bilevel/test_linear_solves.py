"""The default linear solve: the cheap way where it will do, the safe one where it must."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.bilevel import AutoSolve, NormalCG

DIM = 60
SPECTRA = {
    "well conditioned": np.linspace(1, 30, DIM),
    "ill conditioned": np.geomspace(1e-9, 1, DIM),
    "indefinite": np.concatenate([[-3.0], np.linspace(1, 30, DIM - 1)]),
    "negative definite": -np.linspace(1, 30, DIM),
    "singular": np.concatenate([[0.0] * 5, np.linspace(1, 30, DIM - 5)]),
    "zero": np.zeros(DIM),
}
CHEAP = {"well conditioned"}
DEFINITE = {"well conditioned", "ill conditioned"}


def system(values, seed=0, in_range=False):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((len(values),) * 2))
    matrix, b = q * values @ q.T, rng.standard_normal(len(values))
    return matrix, matrix @ b if in_range else b


def solve(matrix, b, tol=None):
    return AutoSolve().solve(lambda v: matrix @ v, b, is_symmetric=True, tol=tol)


def shortest(values, matrix, b):
    """Return the shortest solution of least squares, in NumPy."""
    return np.linalg.lstsq(matrix, b, rcond=1e-12 if np.any(values) else None)[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SPECTRA)
def test_every_kind_of_system_is_solved_and_told(name):
    values = SPECTRA[name]
    matrix, b = system(values)
    found = jax.jit(solve)(matrix, b)
    # the error of a solution: the condition, times 32 roundings of the stop or those of the matrix
    known = values[np.abs(values) > 0]
    condition = np.max(np.abs(known)) / np.min(np.abs(known)) if len(known) else 1.0
    expected = shortest(values, matrix, b)
    bound = 64 * 2**-52 * condition * max(np.linalg.norm(expected), 1)
    assert np.linalg.norm(found.x - expected) <= bound
    assert bool(found.is_definite) == (name in DEFINITE)
    # the matrix takes as many products as it has columns
    assert (int(found.iterations) < DIM) == (name in CHEAP)


@pytest.mark.usefixtures("x64")
def test_each_member_of_a_batch_takes_the_way_it_needs():
    systems = [system(values) for values in SPECTRA.values()]
    matrices, right = map(np.stack, zip(*systems, strict=True))
    together = jax.jit(jax.vmap(solve))(matrices, right)
    alone = [jax.jit(solve)(*one) for one in systems]
    np.testing.assert_array_equal(together.is_definite, [one.is_definite for one in alone])
    assert [int(i) < DIM for i in together.iterations] == [name in CHEAP for name in SPECTRA]
    for x, one, values in zip(together.x, alone, SPECTRA.values(), strict=True):
        known = np.abs(values[np.abs(values) > 0])
        condition = np.max(known) / np.min(known) if len(known) else 1.0
        size = max(float(jnp.linalg.norm(one.x)), 1.0)
        assert float(jnp.linalg.norm(x - one.x)) <= 128 * 2**-52 * condition * size


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("x64")
def test_where_conjugate_gradients_do_the_tolerance_is_kept_in_both_precisions(dtype):
    matrix, b = (jnp.asarray(part, dtype) for part in system(np.linspace(1, 30, 100)))
    for tol in (None, 1e-2):
        found = jax.jit(lambda m, b, tol=tol: solve(m, b, tol))(matrix, b)
        assert found.x.dtype == dtype
        relative = np.linalg.norm(matrix @ found.x - b) / np.linalg.norm(b)
        eps = float(jnp.finfo(dtype).eps)
        # the recurrence carries the residual to within roundings of terms of size ||A|| ||x||
        assert relative <= (32 * eps if tol is None else tol) + 10 * 30 * eps
    assert int(found.iterations) < 20  # a loose tolerance is cheaper still


@pytest.mark.usefixtures("x64")
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0.5, 8), min_size=39, max_size=39),
    st.floats(-8, 0),
    st.integers(0, 99),
)
def test_a_direction_that_does_not_curve_upwards_is_never_overlooked(positive, other, seed):
    # a part of b along it is not made smaller by any step of positive curvatures
    values = np.array([other, *positive])
    found = _SOLVE(*system(values, seed))
    assert not bool(found.is_definite)
    matrix, b = system(values, seed)
    if other == 0:
        off = matrix @ np.asarray(found.x) - b
        assert np.linalg.norm(matrix @ off) <= 1e-10 * np.linalg.norm(b)
    elif other < -1e-6:
        # the condition is 8 / 1e-6 at most, and counts times some roundings
        np.testing.assert_allclose(matrix @ np.asarray(found.x), b, atol=1e-6)


_SOLVE = jax.jit(solve)


@pytest.mark.usefixtures("x64")
def test_a_right_hand_side_in_the_range_of_a_singular_matrix_takes_the_shortest_solution():
    matrix, b = system(SPECTRA["singular"], in_range=True)
    expected = shortest(SPECTRA["singular"], matrix, b)
    np.testing.assert_allclose(_SOLVE(matrix, b).x, expected, atol=1e-11)


def test_nothing_and_what_is_not_a_number():
    matrix = jnp.asarray(system(np.linspace(1, 9, DIM))[0], jnp.float32)
    found = _SOLVE(matrix, jnp.zeros(DIM))
    np.testing.assert_array_equal(found.x, 0)
    assert int(found.iterations) == 0
    assert bool(jnp.isnan(_SOLVE(matrix, jnp.full(DIM, jnp.nan)).x).all())
    assert bool(jnp.isnan(_SOLVE(matrix.at[0, 0].set(jnp.nan), jnp.ones(DIM)).x).any())


@pytest.mark.parametrize("is_batched", [False, True], ids=["alone", "vmap"])
def test_the_matrix_is_factorized_nowhere_but_where_it_is_needed(is_batched):
    matrix = jnp.asarray(system(np.linspace(1, 9, DIM))[0], jnp.float32)
    fun = jax.vmap(solve, (None, 0)) if is_batched else solve
    b = jnp.ones((3, DIM) if is_batched else DIM)
    program = jax.jit(fun).lower(matrix, b).compile().as_text()
    bodies = re.split(r"\n(?=ENTRY)", program)
    assert "potrf" in bodies[0]
    # XLA would move what no turn changes out of the loop, to where it always runs
    assert "potrf" not in bodies[1]


CONTRACTION = 0.4 * np.random.default_rng(7).standard_normal((DIM, DIM)) / np.sqrt(DIM)
ASYMMETRIC = {
    "contraction": np.eye(DIM) - CONTRACTION,
    "shift": np.roll(np.eye(DIM), 1, axis=0),  # on which minimal residuals stall
    "no solution": np.diag([0.0, *np.ones(DIM - 1)]) + np.triu(CONTRACTION, 1),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dense_size", [0, 512], ids=["products", "dense"])
def test_asymmetric_systems_take_minimal_residuals_and_what_is_safe_where_these_stall(dense_size):
    b = np.random.default_rng(8).standard_normal(DIM)
    way = AutoSolve(dense_size)
    options = {"is_symmetric": False, "tol": None}
    run = jax.jit(lambda a, b: way.solve(lambda v: a @ v, b, **options))
    together = jax.jit(jax.vmap(lambda a: run(a, b)))(np.stack(list(ASYMMETRIC.values())))
    for k, (name, matrix) in enumerate(ASYMMETRIC.items()):
        for found in (run(matrix, b), jax.tree.map(lambda leaf, k=k: leaf[k], together)):
            assert found.is_definite is None
            left = matrix @ np.asarray(found.x) - b
            if name == "no solution":
                # of least squares: its residual is orthogonal to the range, within the tolerance
                nearest = np.linalg.lstsq(matrix, b, rcond=1e-12)[0]
                bound = 1e-6 if dense_size == 0 else 1e-11
                np.testing.assert_allclose(left, matrix @ nearest - b, atol=bound)
                assert np.linalg.norm(left) > 1e-3
            else:
                # of conditions below 100; the stop is at 32 roundings
                assert np.linalg.norm(left) <= 1e4 * 2**-52 * np.linalg.norm(b)
            if name == "contraction":
                # 0.4 a step: ln(32 eps) / ln 0.4 = 36, and two looks
                assert int(found.iterations) < 40


@pytest.mark.usefixtures("x64")
def test_minimal_residuals_need_far_fewer_products_than_the_normal_equations():
    contraction = 0.9 * np.random.default_rng(9).standard_normal((600, 600)) / np.sqrt(600)
    b = jnp.asarray(np.random.default_rng(8).standard_normal(600))
    product = lambda v: v - contraction @ v
    counts = {}
    for way in (AutoSolve(), NormalCG()):
        found = way.solve(product, b, is_symmetric=False, tol=1e-8)
        # whose products with the transpose end them a little sooner
        tol = 1e-8 if isinstance(way, AutoSolve) else 1e-7
        assert np.linalg.norm(product(np.asarray(found.x)) - b) <= tol * np.linalg.norm(b)
        counts[type(way)] = int(found.iterations)
    assert counts[AutoSolve] < counts[NormalCG] / 2
