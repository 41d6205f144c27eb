"""Projections against their definition, and descent that stays in a set."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.optimizers import minimize, project, projections, sgd
from jaxopt_tut.optimizers.norms import L1, L2, LInf, Spectral

A = jnp.array([[1.0, 2.0, -1.0], [0.0, 1.0, 1.0], [1.0, 3.0, 0.0]])  # of rank two
NORMAL = jnp.array([1.0, -2.0, 0.5])
SETS = {
    "l1": (projections.ball(1.5, L1()), lambda x: jnp.sum(jnp.abs(x)) - 1.5),
    "l2": (projections.ball(1.5, L2()), lambda x: jnp.linalg.norm(x) - 1.5),
    "linf": (projections.ball(1.5, LInf()), lambda x: jnp.max(jnp.abs(x)) - 1.5),
    "simplex": (
        projections.simplex(2.0),
        lambda x: jnp.maximum(jnp.abs(x.sum() - 2.0), jnp.max(-x)),
    ),
    "box": (
        projections.box(-0.5, jnp.array([1.0, 2.0, 0.25])),
        lambda x: jnp.max(jnp.maximum(-0.5 - x, x - jnp.array([1.0, 2.0, 0.25]))),
    ),
    "affine": (
        projections.affine(A, A @ jnp.array([1.0, 0.0, 2.0])),
        lambda x: jnp.max(jnp.abs(A @ (x - jnp.array([1.0, 0.0, 2.0])))),
    ),
    "hyperplane": (projections.hyperplane(NORMAL, 0.75), lambda x: jnp.abs(NORMAL @ x - 0.75)),
    "half_space": (projections.half_space(NORMAL, 0.75), lambda x: NORMAL @ x - 0.75),
}
CASES = pytest.mark.parametrize(("onto", "excess"), SETS.values(), ids=SETS)
POINT = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3)


@CASES
@settings(deadline=None, max_examples=15)
@given(x=POINT, z=POINT)
def test_the_nearest_point_of_the_set(onto, excess, x, z):
    x, z = jnp.array(x, jnp.float32), onto(jnp.array(z, jnp.float32))
    p = onto(x)
    assert excess(p) <= 1e-5
    np.testing.assert_allclose(onto(p), p, atol=1e-5)
    # of a convex set: every other point lies beyond a right angle
    assert (x - p) @ (z - p) <= 1e-4


@pytest.mark.slow
@CASES
def test_the_derivative_is_that_of_finite_differences_and_finite_at_zero(onto, excess):
    del excess
    with jax.enable_x64(True):
        x, dx = jnp.array([1.7, -2.3, 0.9]), jnp.array([0.3, 0.4, -0.2])
        total = lambda x: jnp.sum(jnp.sin(onto(x)))
        slope = (total(x + 1e-6 * dx) - total(x - 1e-6 * dx)) / 2e-6
        np.testing.assert_allclose(jax.grad(total)(x) @ dx, slope, atol=1e-8)
        assert jnp.all(jnp.isfinite(jax.grad(total)(jnp.zeros(3))))


def test_a_tree_is_one_point():
    tree = {"a": jnp.array([3.0]), "b": (jnp.array([[4.0]]), None)}
    inside = projections.ball(1.0)(tree)
    np.testing.assert_allclose(inside["a"], [0.6], rtol=1e-6)
    np.testing.assert_allclose(inside["b"][0], [[0.8]], rtol=1e-6)
    boxed = projections.box({"a": jnp.array([4.0]), "b": (jnp.array([[0.0]]), None)}, 5.0)(tree)
    np.testing.assert_allclose(boxed["a"], [4.0])
    moved = projections.hyperplane(tree, 0.0)(tree)
    np.testing.assert_allclose(moved["a"], [0.0], atol=1e-6)


LOWER, UPPER = jnp.full(3, -0.5), jnp.array([1.0, 2.0, 0.25])
THEIRS = {
    "l1": lambda x: optax.projections.projection_l1_ball(x, 1.5),
    "l2": lambda x: optax.projections.projection_l2_ball(x, 1.5),
    "linf": lambda x: optax.projections.projection_linf_ball(x, 1.5),
    "simplex": lambda x: optax.projections.projection_simplex(x, 2.0),
    "box": lambda x: optax.projections.projection_box(x, LOWER, UPPER),
    "hyperplane": lambda x: optax.projections.projection_hyperplane(x, NORMAL, 0.75),
    "half_space": lambda x: optax.projections.projection_halfspace(x, NORMAL, 0.75),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_it_is_that_of_optax_where_optax_has_the_set(name):
    points = 3 * jax.random.normal(jax.random.key(0), (20, 3))
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.vmap(THEIRS[name])(points)
    # three numbers of size 10
    np.testing.assert_allclose(jax.vmap(SETS[name][0])(points), theirs, atol=1e-5)


def test_radii_are_traced():
    radii = jnp.array([0.0, 1.0, 10.0])
    for norm in (L1(), L2(), LInf()):
        shrunk = jax.vmap(lambda r, norm=norm: projections.ball(r, norm)(jnp.array([3.0, -1.0])))(
            radii
        )
        np.testing.assert_allclose(shrunk[0], 0, atol=1e-6)
        np.testing.assert_allclose(shrunk[2], [3.0, -1.0], rtol=1e-6)


def test_projected_gradient_descent_finds_the_minimum_on_the_boundary():
    fun = lambda w: jnp.sum((w - jnp.array([3.0, 4.0])) ** 2)
    optimizer = optax.chain(sgd(0.1), project(projections.ball(1.0)))
    solution = minimize(fun, jnp.zeros(2), optimizer)
    assert int(solution.status) == 0  # the gradient does not vanish there, the projected one does
    np.testing.assert_allclose(solution.params, [0.6, 0.8], atol=1e-4)
    assert jnp.linalg.norm(solution.params) <= 1 + 1e-6


POINT3 = jnp.array([3.0, 4.0, -1.0])
ZERO, ONE, NAN, INFINITY = jnp.array(0.0), jnp.array(1.0), jnp.array(jnp.nan), jnp.array(jnp.inf)
NOTHING = jnp.zeros(3)
ROWS = jnp.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
EMPTY = {
    "l1": lambda bad: projections.ball(bad, L1()),
    "l2": lambda bad: projections.ball(bad, L2()),
    "linf": lambda bad: projections.ball(bad, LInf()),
    "simplex": projections.simplex,
    "box": lambda bad: projections.box(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, bad, 1.0])),
    "half_space": lambda bad: projections.half_space(NOTHING, bad),
    "hyperplane": lambda bad: projections.hyperplane(NOTHING, bad),
    "affine": lambda bad: projections.affine(ROWS, jnp.array([bad, 1.0])),
}


@pytest.mark.parametrize("bad", [-ONE, NAN], ids=["negative", "nan"])
@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
def test_a_traced_set_without_a_point_gives_no_number_and_no_derivative(make, bad):
    value, derivative = jax.jvp(lambda x: make(bad)(x), (POINT3,), (jnp.ones(3),))
    assert jnp.isnan(value).all()
    assert jnp.isnan(derivative).all()


DEGENERATE = {
    "point_l1": (lambda: projections.ball(ZERO, L1()), [0, 0, 0]),
    "point_l2": (lambda: projections.ball(ZERO, L2()), [0, 0, 0]),
    "point_linf": (lambda: projections.ball(ZERO, LInf()), [0, 0, 0]),
    "point_simplex": (lambda: projections.simplex(ZERO), [0, 0, 0]),
    "point_box": (lambda: projections.box(2.0, 2), [2, 2, 2]),
    "space_l1": (lambda: projections.ball(INFINITY, L1()), POINT3),
    "space_l2": (lambda: projections.ball(INFINITY, L2()), POINT3),
    "space_linf": (lambda: projections.ball(INFINITY, LInf()), POINT3),
    "space_box": (lambda: projections.box(-float("inf"), float("inf")), POINT3),
    "space_half_space": (lambda: projections.half_space(NOTHING, ONE), POINT3),
    "space_half_space_far": (lambda: projections.half_space(jnp.ones(3), INFINITY), POINT3),
    "space_hyperplane": (lambda: projections.hyperplane(NOTHING, ZERO), POINT3),
    "row_of_zeros": (lambda: projections.affine(ROWS, jnp.array([0.0, 1.0])), [0, 1, -1]),
    "no_rows": (lambda: projections.affine(jnp.zeros((0, 3)), jnp.zeros(0)), POINT3),
    # x + y = 1 and x + y = 2, each row at a scale of its own: half-way between them
    "contradiction": (
        lambda: projections.affine(
            np.array([[1e-6, 1e-6, 0], [2e5, 2e5, 0]]), np.array([1e-6, 4e5])
        ),
        [0.25, 1.25, -1],
    ),
    "rows_of_far_scales": (
        lambda: projections.affine(np.diag([1e-20, 1e20, 1.0]), np.array([1e-20, 2e20, 3.0])),
        [1, 2, 3],
    ),
}


@pytest.mark.parametrize(("make", "expected"), DEGENERATE.values(), ids=DEGENERATE)
def test_a_point_and_all_of_space_are_sets_too(make, expected):
    # some ten roundings of numbers up to 4
    np.testing.assert_allclose(make()(POINT3), expected, atol=40 * np.finfo(np.float32).eps)


def test_bounds_may_be_numbers_beside_arrays():
    x = {"a": jnp.array([3.0, -4.0]), "b": jnp.array([[0.5]])}
    for bound in (np.array(1.0), np.float32(1), 1, jnp.array(1.0)):
        inside = projections.box({"a": np.array([0.0, -1.0]), "b": bound}, bound)(x)
        np.testing.assert_array_equal(inside["a"], [1, -1])
        np.testing.assert_array_equal(inside["b"], [[1]])


def test_complex_parameters_keep_their_phases():
    x = jnp.array([3.0 + 4.0j, 0.3j, 0.0j])
    np.testing.assert_allclose(projections.ball(1.0, LInf())(x), [0.6 + 0.8j, 0.3j, 0], rtol=1e-6)
    np.testing.assert_allclose(projections.ball(1.0, L1())(x), [0.6 + 0.8j, 0, 0], rtol=1e-6)
    size = np.sqrt(25.09)
    np.testing.assert_allclose(projections.ball(1.0)(x), np.asarray(x) / size, rtol=1e-6)
    real_part = projections.half_space(jnp.array([1.0, 0.0, 0.0]), 1.0)(x)
    np.testing.assert_allclose(real_part, [1 + 4j, 0.3j, 0], rtol=1e-6)


def test_a_point_on_a_hyperplane_stays_there_under_derivatives():
    onto = projections.hyperplane(jnp.array([1.0, 1.0]), 1.0)
    jacobian = jax.jacobian(onto)(jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(jacobian, [[0.5, -0.5], [-0.5, 0.5]], atol=1e-6)


def test_coordinates_at_minus_infinity_are_left_out_of_a_simplex():
    x = jnp.array([-jnp.inf, 4.0, 3.5])
    np.testing.assert_array_equal(projections.simplex()(x), [0, 0.75, 0.25])
    jacobian = jax.jacobian(projections.simplex())(x)
    np.testing.assert_allclose(jacobian, [[0, 0, 0], [0, 0.5, -0.5], [0, -0.5, 0.5]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: projections.ball(-1.0),
            ValueError,
            "ball needs a finite radius >= 0, got radius=-1",
        ),
        (lambda: projections.ball(1.0, Spectral()), ValueError, "ball needs one of the norms"),
        (lambda: projections.simplex(0.0), ValueError, "simplex needs total > 0, got total=0"),
        (lambda: projections.affine(A, jnp.ones(2)), ValueError, "affine needs a matrix"),
        (
            lambda: projections.affine(A, jnp.ones(3))(jnp.ones(4)),
            ValueError,
            "a column for each of 4",
        ),
        (lambda: projections.box(jnp.ones(2), 1.0)(jnp.ones(3)), ValueError, "box needs leaves of"),
        (lambda: projections.hyperplane(NORMAL, 0.0)(jnp.ones(2)), ValueError, "hyperplane needs"),
        (lambda: projections.simplex(-2), ValueError, "simplex needs total > 0, got total=-2"),
        (lambda: projections.simplex(np.inf), ValueError, "simplex needs a finite total, got"),
        (lambda: projections.ball(np.inf), ValueError, "ball needs a finite radius >= 0, got"),
        (lambda: projections.box(1, 0), ValueError, "box needs lower <= upper, got lower=1 and u"),
        (lambda: projections.box(np.nan, 0), ValueError, "box needs lower <= upper, got lower=n"),
        (
            lambda: projections.box({"a": np.array([0, 2])}, 1)({"a": jnp.ones(2)}),
            ValueError,
            "box needs lower <= upper, got lower=2 and upper=1 at 'a'",
        ),
        (lambda: projections.box(0, 1j)(jnp.ones(2)), TypeError, "box needs real bounds, got a c"),
        (lambda: projections.box(0, 1)(jnp.array([1j])), TypeError, "box needs real parameters"),
        (lambda: projections.simplex()(jnp.array([1j])), TypeError, "simplex needs real param"),
        (lambda: projections.simplex()(jnp.arange(2)), TypeError, "simplex needs floating or com"),
        (lambda: projections.ball()(jnp.arange(2)), TypeError, "ball needs floating or complex"),
        (lambda: projections.hyperplane(0, 1), ValueError, "hyperplane needs a normal that is not"),
        (lambda: projections.half_space(np.zeros(2), 1), ValueError, "half_space needs a normal"),
        (lambda: projections.half_space(np.ones(2), np.inf), ValueError, "half_space needs a fini"),
        (lambda: projections.half_space(np.array([np.inf]), 1), ValueError, "needs a finite norm"),
        (
            lambda: projections.hyperplane(np.array([1j, 1]), 0.0)(jnp.ones(2)),
            TypeError,
            "hyperplane needs a real normal for real parameters",
        ),
        (
            lambda: projections.affine(np.zeros((1, 2)), np.ones(1)),
            ValueError,
            "affine needs an offset of 0 where a row of the matrix is 0, got 1.0",
        ),
        (
            lambda: projections.affine(np.full((1, 2), np.nan), np.ones(1)),
            ValueError,
            "affine needs a finite matrix",
        ),
        (
            lambda: projections.affine(A.astype(complex), jnp.ones(3)),
            TypeError,
            "affine needs a real matrix",
        ),
        (lambda: project(1.0), TypeError, "project needs a function as projection, got 1.0"),
        (lambda: project(abs).update(jnp.ones(2), None), ValueError, "project needs params"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
