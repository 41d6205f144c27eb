"""Minimisation under bounds: SciPy's answers, every way to write bounds, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from jaxopt_tut import optimizers
from jaxopt_tut.optimizers import (
    bfgs,
    gauss_newton,
    lbfgs,
    lbfgsb,
    minimize,
    newton,
    newton_cg,
    nonlinear_cg,
    project,
    projections,
)


def rosenbrock(w):
    return jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)


def quartic(w):
    return jnp.sum((w - jnp.arange(w.size, dtype=w.dtype)) ** 4) + jnp.sum(w) ** 2


def ill_conditioned(w):
    scales = 10.0 ** jnp.linspace(0, 6, w.size, dtype=w.dtype)
    return jnp.sum(scales * (w - 1) ** 2) + jnp.sum(w[1:] * w[:-1])


FUNCTIONS = {"rosenbrock": rosenbrock, "quartic": quartic, "ill_conditioned": ill_conditioned}
BOXES = {"above": (-np.inf, 0.5), "below": (1.5, np.inf), "both": (-0.4, 0.7), "none": (-9.0, 9.0)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("fun", FUNCTIONS.values(), ids=FUNCTIONS)
def test_ends_where_scipy_does(fun, box):
    start = jnp.linspace(-1.2, 1.0, 7)
    solution = minimize(fun, start, lbfgsb(), bounds=box, gtol=1e-8)
    assert bool(solution.converged), solution.message
    both = jax.jit(jax.value_and_grad(fun))
    found = scipy.optimize.minimize(
        lambda w: tuple(map(np.asarray, both(w))),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[box] * 7,
        options={"gtol": 1e-8, "ftol": 0.0, "maxiter": 5000},
    )
    # a gradient of 1e-8 leaves 1e-16 / curvature; curvatures are about 1 or more
    assert solution.value <= found.fun + 1e-9 * max(1, abs(found.fun))
    lower, upper = box
    np.testing.assert_array_equal((solution.params >= lower) & (solution.params <= upper), True)
    # a bound that holds has a multiplier of the right sign, and the rest no slope
    slope = np.asarray(jax.grad(fun)(solution.params))
    active = np.asarray(solution.active)
    assert np.all(slope[active == -1] >= -1e-8)
    assert np.all(slope[active == 1] <= 1e-8)
    assert np.all(np.abs(slope[active == 0]) <= 1e-8)


@pytest.mark.usefixtures("x64")
def test_the_multiplier_of_a_bound_is_the_derivative_of_the_value():
    value = lambda upper: minimize(rosenbrock, jnp.zeros(2), lbfgsb(), bounds=(None, upper)).value
    solution = minimize(rosenbrock, jnp.zeros(2), lbfgsb(), bounds=(None, jnp.array([0.5, 9.0])))
    slope = jax.grad(rosenbrock)(solution.params)[0]
    h = 1e-4
    change = [value(jnp.array([0.5 + s * h, 9.0])) for s in (-1, 1)]
    np.testing.assert_allclose((change[1] - change[0]) / (2 * h), slope, rtol=1e-6)


WAYS = {
    "numbers": (0.0, 0.5),
    "arrays": (np.zeros(2), np.full(2, 0.5)),
    "lists": ([0.0, 0.0], [0.5, 0.5]),
    "none below": (None, 0.5),
    "traced": (jnp.zeros(2), jnp.full(2, 0.5)),
    "infinite": (np.array([-np.inf, 0.0]), np.array([0.5, np.inf])),
}


@pytest.mark.parametrize("bounds", WAYS.values(), ids=WAYS)
def test_bounds_may_be_written_in_many_ways(bounds):
    solution = minimize(rosenbrock, jnp.array([0.1, 0.4]), lbfgsb(), bounds=bounds)
    np.testing.assert_allclose(solution.params, [0.5, 0.25], atol=1e-4)
    np.testing.assert_array_equal(solution.active, [1, 0])


def test_trees_take_trees_with_none_where_there_is_no_bound():
    start = {"a": jnp.zeros(2), "b": jnp.array(3.0)}
    loss = lambda w: jnp.sum((w["a"] - 5) ** 2) + (w["b"] + 1) ** 2
    solution = minimize(
        loss, start, lbfgsb(), bounds=({"a": None, "b": 0.0}, {"a": 2.0, "b": None})
    )
    np.testing.assert_allclose(solution.params["a"], 2.0)
    np.testing.assert_allclose(solution.params["b"], 0.0)
    assert solution.active["a"].tolist() == [1, 1]
    assert int(solution.active["b"]) == -1
    assert not bool(solution.start_was_outside)


def test_none_stands_for_a_subtree_and_for_a_leaf_that_is_none():
    start = {"a": {"w": jnp.zeros(2), "b": None}, "c": jnp.array(3.0)}
    loss = lambda w: jnp.sum((w["a"]["w"] - 5) ** 2) + (w["c"] + 1) ** 2
    solution = minimize(loss, start, lbfgsb(), bounds=({"a": None, "c": 0.0}, None))
    np.testing.assert_allclose(solution.params["a"]["w"], 5.0, rtol=1e-4)
    np.testing.assert_array_equal(solution.params["c"], 0.0)


def test_a_start_outside_is_moved_and_said_so():
    solution = minimize(
        rosenbrock, jnp.array([5.0, -5.0]), lbfgsb(), bounds=(0.0, 0.5), history=True
    )
    assert bool(solution.start_was_outside)
    np.testing.assert_array_equal(solution.history.params[0], [0.5, 0.0])
    assert bool(solution.converged)


def test_a_box_of_one_point_is_solved_at_once():
    solution = minimize(rosenbrock, jnp.zeros(2), lbfgsb(), bounds=(0.3, 0.3))
    assert solution.active.tolist() == [2, 2]
    assert (int(solution.steps), bool(solution.converged)) == (0, True)


def test_no_trial_of_the_search_leaves_the_box():
    """Beyond its walls this function is not a number."""
    barrier = lambda w: jnp.sum(jnp.where((w >= 1) & (w <= 3), w * jnp.log(w) - 2 * w, jnp.nan))
    solution = minimize(barrier, jnp.array([2.0, 1.0, 3.0]), lbfgsb(), bounds=(1.0, 3.0))
    assert bool(solution.converged), solution.message
    np.testing.assert_allclose(solution.params, np.e, rtol=1e-3)
    down = lambda w: jnp.sum(jnp.where((w >= 1) & (w <= 3), -(w**2), jnp.nan))
    solution = minimize(down, jnp.array([1.1, 2.0]), lbfgsb(), bounds=(1.0, 3.0))
    np.testing.assert_array_equal(solution.params, 3.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "make",
    [nonlinear_cg, lambda: optimizers.sgd(1e-3), lambda: optimizers.adam(0.02)],
    ids=["cg", "sgd", "adam"],
)
def test_others_are_projected(make):
    solution = minimize(
        rosenbrock, jnp.array([0.1, 0.4]), make(), bounds=(0.0, 0.5), max_steps=3000
    )
    assert bool(solution.converged), solution.message
    np.testing.assert_allclose(solution.params, [0.5, 0.25], atol=1e-3)
    np.testing.assert_array_equal(solution.active, [1, 0])


@pytest.mark.parametrize("name", ["bfgs", "lbfgs", "newton", "newton_cg", "trust_region"])
def test_steps_with_a_metric_of_their_own_are_refused_by_what_to_take(name):
    with pytest.raises(
        ValueError, match=r"^minimize under bounds needs .* lbfgsb\(\) with minimize"
    ):
        minimize(rosenbrock, jnp.zeros(2), getattr(optimizers, name)(), bounds=(0.0, 0.5))


def test_vmapped_bounds_equal_the_loop():
    run = lambda start, upper: minimize(rosenbrock, start, lbfgsb(), bounds=(-1.0, upper))
    starts = jnp.array([[0.1, 0.4], [-0.9, 0.9], [0.0, 0.0]])
    uppers = jnp.array([0.5, 0.9, 2.0])
    together = jax.vmap(run)(starts, uppers)
    for i, (start, upper) in enumerate(zip(starts, uppers, strict=True)):
        alone = run(start, upper)
        # both end where no component is larger than gtol; how many steps that takes is rounding's
        assert bool(together.converged[i])
        np.testing.assert_allclose(together.params[i], alone.params, atol=1e-4)
        np.testing.assert_array_equal(together.active[i], alone.active)


@pytest.mark.parametrize(
    ("x0", "bounds", "error", "message"),
    [
        (
            jnp.zeros(2),
            (1.0, 0.5),
            ValueError,
            "^minimize needs lower <= upper, got lower=1.0 and upper=0.5",
        ),
        (jnp.zeros(2), (np.nan, 0.5), ValueError, "^minimize needs lower <= upper, got lower=nan"),
        (
            jnp.zeros(2),
            ([0.0, 1.0], [1.0, 0.0]),
            ValueError,
            "^minimize needs lower <= upper, got lower=1.0 and",
        ),
        (jnp.zeros(2), 0.5, TypeError, r"^minimize needs bounds=\(lower, upper\), got 0.5"),
        (
            jnp.zeros(2),
            [(0, 1), (0, 1), (0, 1)],
            TypeError,
            r"^minimize needs bounds=\(lower, upper\)",
        ),
        (jnp.zeros(2), (np.zeros(3), None), ValueError, "^minimize needs "),
        (jnp.zeros(2), ({"a": 0.0}, None), ValueError, "^minimize needs "),
        (
            jnp.zeros(2, complex),
            (0.0, 1.0),
            TypeError,
            "^minimize needs real parameters under bounds",
        ),
        (jnp.zeros(2), (0.0, 1j), TypeError, "^minimize needs real bounds"),
        ([np.zeros(2, int), 1.0], (0, 1), TypeError, "^minimize needs floating or complex"),
    ],
)
def test_bad_bounds_are_refused_in_a_sentence(x0, bounds, error, message):
    with pytest.raises(error, match=message):
        minimize(rosenbrock, x0, lbfgsb(), bounds=bounds)


def test_bounds_and_a_projection_are_refused():
    optimizer = optax.chain(nonlinear_cg(), project(projections.ball(1.0)))
    with pytest.raises(ValueError, match=r"^minimize needs either bounds= or project\(\.\.\.\)"):
        minimize(rosenbrock, jnp.zeros(2), optimizer, bounds=(0.0, 1.0))


def test_traced_bounds_that_leave_nothing_end_with_a_flag():
    run = jax.jit(
        lambda lower, upper: minimize(rosenbrock, jnp.zeros(2), lbfgsb(), bounds=(lower, upper))
    )
    solution = run(1.0, 0.5)
    assert not bool(solution.converged)
    assert not bool(run(jnp.nan, 0.5).converged)
    assert bool(run(0.0, 0.5).converged)


@pytest.mark.untyped  # the closures of an optimizer are wrapped anew each time it is made
def test_other_bounds_do_not_compile_anew():
    count = 0

    def counted(w):
        nonlocal count
        count += 1
        return rosenbrock(w)

    for upper in (0.5, 0.6, 0.7):
        minimize(counted, jnp.zeros(2), lbfgsb(), bounds=(0.0, upper))
    traced = count
    minimize(counted, jnp.zeros(2), lbfgsb(), bounds=(-1.0, 0.8))
    assert count == traced


@pytest.mark.parametrize(
    "make",
    [lbfgsb, nonlinear_cg, lambda: optimizers.adam(0.1)],
    ids=["lbfgsb", "nonlinear_cg", "adam"],
)
def test_traced_bounds_with_nothing_between_them_are_flagged_lane_by_lane(make):
    bowl = lambda w: jnp.sum((w - 3) ** 2)
    run = lambda low, high: minimize(bowl, jnp.zeros(2), make(), bounds=(low, high))
    low = jnp.array([0.0, jnp.nan, 2.0, 0.5, -jnp.inf])
    high = jnp.array([1.0, 1.0, 1.0, 0.5, jnp.nan])
    solution = jax.vmap(run)(low, high)
    np.testing.assert_array_equal(solution.status == 12, [False, True, True, False, True])
    np.testing.assert_array_equal(solution.converged, [True, False, False, True, False])
    np.testing.assert_array_equal(solution.params[jnp.array([0, 3])], [[1, 1], [0.5, 0.5]])
    assert solution.status.message[2] == (
        "Stopped: a lower bound is above the upper one, or a bound is not a number."
    )
    assert solution.steps[2] == 0


def two_bowls(w):
    return jnp.sum((w["a"] - 3) ** 2) + jnp.sum((w["b"] - 3) ** 2)


PARTS = {
    "numbers": ((0.0, 1.0), 1.0, 1.0),
    "tree": (({"a": None, "b": 0.0}, {"a": 1.0, "b": np.array([2.0, 9.0])}), 1.0, [2.0, 3.0]),
    "none": ((None, {"a": None, "b": 2.0}), 3.0, 2.0),
}


@pytest.mark.parametrize(("bounds", "a", "b"), PARTS.values(), ids=PARTS)
def test_parts_of_the_parameters_feel_their_part_of_the_bounds(bounds, a, b):
    labels = {"a": "first", "b": "second"}
    parted = optax.partition({"first": lbfgsb(), "second": lbfgsb(memory=3)}, labels)
    start = {"a": jnp.array([0.5, 4.0]), "b": jnp.array([0.2, 0.1])}
    solution = minimize(two_bowls, start, parted, bounds=bounds)
    assert bool(solution.converged), solution.message
    np.testing.assert_allclose(solution.params["a"], np.full(2, a), atol=1e-4)
    np.testing.assert_allclose(solution.params["b"], np.zeros(2) + b, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [bfgs, lbfgs, lbfgsb, newton, newton_cg, nonlinear_cg, gauss_newton],
)
def test_a_line_search_that_was_not_called_is_told_to_be(make):
    message = f"^{make.__name__} needs one of line_search .*, got a function: call it, wolfe"
    with pytest.raises(TypeError, match=message):
        make(line_search=optimizers.line_search.wolfe)
    with pytest.raises(TypeError, match="got 'wolfe'"):
        make(line_search="wolfe")


@pytest.mark.parametrize("size", [5, 40], ids=["dense", "compact"])
def test_the_scale_of_the_function_does_not_matter(size):
    center = jnp.linspace(-1.0, 1.0, size)
    bowl = lambda w, scale: scale * jnp.sum(jnp.arange(1.0, size + 1) * (w - center) ** 2)
    for scale in (1e-12, 1e-6, 1.0, 1e12, 1e25):
        solution = minimize(
            bowl,
            jnp.full(size, 0.3),
            lbfgsb(),
            jnp.float32(scale),
            bounds=(-0.5, 0.5),
            gtol=min(1e-4, 1e-5 * scale),
            max_steps=100,
        )
        # a gradient of 1e-5 * scale at a curvature of 2 * scale or more
        right = np.clip(center, -0.5, 0.5)
        np.testing.assert_allclose(solution.params, right, atol=5e-6, err_msg=str(scale))
