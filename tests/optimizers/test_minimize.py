"""The loop itself: when it stops, what it says, and that it compiles once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize as scipy_minimize
from scipy.optimize import rosen, rosen_der

from jaxopt_tut.optimizers import (
    adam,
    bfgs,
    lbfgs,
    levenberg_marquardt,
    line_search,
    minimize,
    newton,
    newton_cg,
    nonlinear_cg,
    project,
    projections,
    sgd,
    trust_region,
)

START = np.array([-1.2, 1.0])


def rosenbrock(w):
    return jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)


def bowl(w):
    return jnp.sum((w - 3) ** 2)


@pytest.mark.parametrize("make", [bfgs, lbfgs])
@pytest.mark.usefixtures("x64")
def test_finds_the_minimum_that_scipy_finds_with_as_few_evaluations(make):
    solution = minimize(rosenbrock, jnp.array(START), make())
    method = {"bfgs": "BFGS", "lbfgs": "L-BFGS-B"}[make.__name__]
    reference = scipy_minimize(rosen, START, jac=rosen_der, method=method, options={"gtol": 1e-6})
    np.testing.assert_allclose(solution.params, 1, atol=1e-6)
    assert solution.grad_norm <= 1e-6
    # the two start alike and differ in their line searches
    assert int(solution.evaluations) <= 1.25 * reference.nfev


def test_gtol_bounds_the_largest_component_and_defaults_to_the_precision():
    single = minimize(rosenbrock, jnp.array(START, jnp.float32), bfgs())
    assert single.grad_norm <= 1e-4
    largest = jnp.max(jnp.abs(jax.grad(rosenbrock)(single.params)))
    # 100 (y - x^2) cancels, so that the last bits depend on how the sum is compiled
    np.testing.assert_allclose(single.grad_norm, largest, rtol=1e-3)
    tight = minimize(bowl, jnp.zeros(2), sgd(0.1), gtol=1e-2)
    loose = minimize(bowl, jnp.zeros(2), sgd(0.1), gtol=1.0)
    assert loose.steps < tight.steps
    assert tight.grad_norm <= 1e-2 < loose.grad_norm <= 1.0


def test_a_solution_says_in_words_why_it_ended():
    solution = minimize(bowl, jnp.zeros(2), sgd(0.1), max_steps=3)
    assert int(solution.status) == 3
    assert solution.status == 3
    assert solution.status.message == solution.message
    assert "max_steps" in solution.message
    assert not solution.converged
    assert np.asarray(solution.status).dtype == np.int32


@pytest.mark.parametrize(
    ("options", "code"), [({"ftol": 1e-3}, 1), ({"xtol": 1e-3}, 2)], ids=["value", "step"]
)
def test_stops_where_the_value_or_the_parameters_stand_still(options, code):
    solution = minimize(bowl, jnp.zeros(2), sgd(0.1), gtol=0.0, **options)
    assert int(solution.status) == code
    assert solution.converged
    assert 0 < solution.steps < 50


def test_no_steps_means_the_start():
    solution = minimize(bowl, jnp.zeros(2), lbfgs(), max_steps=0, history=True)
    assert int(solution.status) == 3
    assert solution.steps == 0
    assert solution.evaluations == 1
    np.testing.assert_array_equal(solution.history.params, np.zeros((1, 2)))
    assert int(minimize(bowl, 3 * jnp.ones(2), lbfgs(), max_steps=0).status) == 0


@pytest.mark.parametrize("make", [lambda: sgd(0.1), lbfgs], ids=["sgd", "lbfgs"])
@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_a_start_that_is_not_finite_is_returned(make, bad):
    solution = minimize(bowl, jnp.array([1.0, bad]), make())
    assert int(solution.status) == 6
    assert "start" in solution.message
    assert solution.steps == 0
    np.testing.assert_array_equal(solution.params, [1.0, bad])


def test_the_best_point_is_returned_when_a_value_is_not_finite():
    # the steps are 3, 1, -1 ... down to where the logarithm ends
    fun = lambda w: w + 0 * jnp.log(w)
    solution = minimize(fun, jnp.array(5.0), sgd(2.0))
    assert int(solution.status) == 5
    assert not solution.converged
    assert solution.params == solution.value == 1.0
    assert solution.steps == 3


def test_a_line_search_that_finds_nothing_ends_the_search():
    @jax.custom_jvp
    def liar(w):
        return jnp.sum(w**2)

    liar.defjvp(lambda w, dw: (liar(w[0]), jnp.sum(dw[0])))
    solution = minimize(liar, jnp.zeros(2), bfgs())
    assert int(solution.status) == 4
    assert solution.steps == 2
    assert jnp.max(jnp.abs(solution.params)) < jnp.finfo(jnp.float32).eps


def test_history_is_the_trajectory_and_under_jit_repeats_its_end():
    def run(start):
        return minimize(bowl, start, sgd(0.25), max_steps=4, gtol=0.6, history=True)

    start = jnp.array([2.0])
    for solution, rows in ((run(start), 3), (jax.jit(run)(start), 5)):
        repeat = lambda row, rows=rows: row[:rows]
        np.testing.assert_allclose(
            solution.history.params[:, 0], repeat([2.0, 2.5, 2.75, 2.75, 2.75])
        )
        np.testing.assert_allclose(solution.history.value, repeat([1.0, 0.25, *[0.0625] * 3]))
        np.testing.assert_allclose(solution.history.grad_norm, repeat([2.0, 1.0, 0.5, 0.5, 0.5]))
        assert solution.steps == 2
    assert jax.vmap(run)(start[None]).history.value.shape == (1, 5)
    pushed = jax.jvp(run, (start,), (start,))[1].history  # the slope 1 - 2 rate of each step
    np.testing.assert_allclose(pushed.params[:, 0], [2.0, 1.0, 0.5])


@pytest.mark.untyped  # the closures of an optimizer are wrapped anew each time it is made
def test_compiles_once_for_equal_optimizers_and_other_values():
    traces = []

    def fun(w, scale):
        traces.append(1)
        return scale * jnp.sum(w**2)

    minimize(fun, jnp.ones(2), lbfgs(), 1.0)
    first = len(traces)
    for gtol in (1e-3, 1e-2):
        minimize(fun, 2 * jnp.ones(2), lbfgs(), 3.0, gtol=gtol, max_steps=50)
    minimize(fun, jnp.ones(2), optax.chain(lbfgs()), 1.0)  # built differently
    second = len(traces)
    minimize(fun, jnp.ones(2), optax.chain(lbfgs()), 1.0)
    assert first > 0
    assert second == 2 * first
    assert len(traces) == second


def test_an_evaluation_is_reused_only_if_the_last_link_made_it():
    # a link after the search changes its step, so that what the search knows is of another point
    optimizer = optax.chain(lbfgs(), optax.scale(0.5))
    solution = minimize(rosenbrock, jnp.array(START), optimizer, max_steps=30)
    assert solution.value == pytest.approx(float(rosenbrock(solution.params)), rel=1e-4)
    reused = minimize(bowl, jnp.zeros(2), optax.chain(sgd(1.0), line_search.exact()))
    assert reused.evaluations == 3  # the start, the step 1, the exact one


def test_lanes_of_a_batch_stay_where_they_ended():
    starts = jnp.array([[-1.2, 1.0], [1.0, 1.0], [0.5, 2.0]])
    run = lambda w: minimize(rosenbrock, w, bfgs())
    batch = jax.vmap(run)(starts)
    for i, start in enumerate(starts):
        alone = run(start)
        np.testing.assert_allclose(batch.params[i], alone.params, atol=1e-3)
        assert abs(int(batch.steps[i]) - int(alone.steps)) <= 2  # batched sums round differently
    assert batch.steps[1] == 0
    assert batch.status.message[1].startswith("Converged")


def test_hyperparameters_are_vmapped():
    rates = jnp.array([0.05, 0.25, 0.5])
    run = lambda rate: minimize(bowl, jnp.zeros(2), sgd(rate), max_steps=20, gtol=0.0)
    values = jax.vmap(run)(rates).value
    np.testing.assert_allclose(values, 18 * (1 - 2 * rates) ** 40, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: adam(0.3), bfgs], ids=["adam", "bfgs"])
def test_any_optimizer_minimises_any_tree(make):
    target = {"a": jnp.array([1.0, -2.0]), "b": (jnp.array(0.5 - 1.0j), None, jnp.zeros((0, 3)))}

    def fun(params, target):
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(target), strict=True)
        return sum(jnp.sum(jnp.abs(p - t) ** 2) for p, t in pairs)

    solution = minimize(fun, jax.tree.map(jnp.zeros_like, target), make(), target, max_steps=300)
    assert solution.converged
    for found, wanted in zip(
        jax.tree.leaves(solution.params), jax.tree.leaves(target), strict=True
    ):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_what_optax_evaluated_is_counted_and_reused():
    solution = minimize(rosenbrock, jnp.array(START, jnp.float32), optax.lbfgs())
    assert solution.converged
    assert solution.steps < solution.evaluations < 2 * solution.steps


def test_scipy_gets_its_own_result():
    solution = minimize(bowl, jnp.zeros(2), bfgs())
    result = solution.to_scipy()
    np.testing.assert_allclose(result.x, [3.0, 3.0], rtol=1e-5)
    assert (result.nit, result.nfev) == (solution.steps, solution.evaluations)
    assert result.success
    assert result.message == solution.message


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: minimize(bowl, jnp.zeros(2), bfgs(), max_steps=-1), ValueError, "max_steps >= 0"),
        (lambda: minimize(bowl, {}, bfgs()), ValueError, "at least one parameter, got an empty"),
        (lambda: minimize(bowl, jnp.zeros(0), bfgs()), ValueError, "at least one parameter"),
        (lambda: minimize(jnp.sin, jnp.zeros(2), bfgs()), ValueError, "a real scalar, got"),
        (
            lambda: minimize(jnp.sum, jnp.zeros(2, jnp.complex64), bfgs()),
            ValueError,
            "a real scalar, got",
        ),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=f"minimize needs.*{message}"):
        call()


@pytest.mark.parametrize("limit", ["ftol", "xtol"])
@pytest.mark.parametrize("optimizer", [trust_region(), levenberg_marquardt()])
def test_a_rejected_step_is_no_convergence(optimizer, limit):
    residuals = lambda w: jnp.array([10 * (w[1] - w[0] ** 2), 1 - w[0]])
    solution = minimize(
        lambda w: 0.5 * jnp.sum(residuals(w) ** 2),
        jnp.array([-1.2, 1.0]),
        optimizer,
        residual_fn=residuals,
        **{limit: 1e-9},
    )
    assert solution.converged
    np.testing.assert_allclose(solution.params, [1, 1], rtol=1e-3)


def test_a_trust_region_that_cannot_step_fails():
    def fun(w):
        jump = jnp.where(jnp.any(w != 1), 1.0, 0.0)  # lower nowhere close
        return jnp.sum(w**2) + jump

    solution = minimize(fun, jnp.ones(2), trust_region(initial_radius=0.1), xtol=1e-9)
    assert not solution.converged
    # quartered from 0.1 to the rounding of the parameters, and two failures in a row
    assert solution.steps <= 12 + 2
    np.testing.assert_array_equal(solution.params, jnp.ones(2))


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e12, 1e30])
@pytest.mark.parametrize(
    "make",
    [newton, newton_cg, trust_region, lambda: trust_region(max_dense=0)],
    ids=["newton", "newton_cg", "trust_region", "trust_region_matrix_free"],
)
def test_gradients_whose_squares_over_or_underflow_lead_to_the_minimum(make, scale):
    def fun(w, scale):
        return scale * jnp.sum(jnp.array([1.0, 3.0, 0.5]) * (w - 1) ** 2 + 0.1 * (w - 1) ** 4)

    start = jnp.array([3.0, -1.0, 2.0])
    solution = minimize(fun, start, make(), scale, gtol=1e-4 * scale)
    assert solution.converged
    # a gradient of 1e-4 at the least curvature 1, in units of the scale
    np.testing.assert_allclose(solution.params, 1, atol=1.1e-4)


@pytest.mark.parametrize("scale", [1e12, 1e20, 1e30])
@pytest.mark.parametrize("make", [bfgs, lbfgs])
def test_quasi_newton_methods_start_where_the_square_of_the_gradient_overflows(make, scale):
    fun = lambda w, scale: scale * jnp.sum(jnp.array([1.0, 3.0, 0.5]) * (w - 1) ** 4)
    solution = minimize(fun, jnp.array([3.0, -1.0, 2.0]), make(), scale, gtol=1e-4 * scale)
    assert solution.converged
    # 4 c |w - 1|^3 <= 1e-4 with c >= 1/2
    np.testing.assert_allclose(solution.params, 1, atol=(1e-4 / 2) ** (1 / 3))


def test_a_first_radius_within_the_rounding_of_the_parameters_is_raised():
    start = jnp.full(2, 1e8)  # the next number is 8 away, and the radius 1
    solution = minimize(lambda w: jnp.sum(w**4), start, trust_region(), xtol=1e-9)
    assert solution.converged
    assert solution.grad_norm <= 1e-4


def test_half_precision_parameters_are_minimised():
    start = {"half": jnp.zeros(2, jnp.bfloat16), "single": jnp.zeros(1)}
    distance = lambda w: (
        jnp.sum((w["half"].astype(jnp.float32) - 1) ** 2) + jnp.sum(w["single"] ** 2)
    )
    np.testing.assert_array_equal(minimize(distance, start, lbfgs()).params["half"], [1, 1])


@pytest.mark.parametrize(
    "search",
    [
        optax.scale_by_zoom_linesearch(20),
        optax.scale_by_backtracking_linesearch(20, store_grad=True),
    ],
    ids=["zoom", "backtracking"],
)
def test_the_line_searches_of_optax_descend_in_the_complex_plane(search):
    curvature, target = jnp.array([1.0, 10.0]), 1 + 2j
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies real and complex numbers
        solution = minimize(
            lambda z: jnp.sum(curvature * jnp.abs(z - target) ** 2),
            jnp.array([0j, 3 - 1j]),
            optax.chain(sgd(1.0), search),
        )
    assert solution.converged
    np.testing.assert_allclose(solution.params, target, rtol=1e-3)


def test_codes_of_a_batch_are_compared_one_by_one():
    starts = jnp.array([[-1.2, 1.0], [jnp.nan, 1.0]])
    status = jax.vmap(lambda w: minimize(rosenbrock, w, bfgs()))(starts).status
    np.testing.assert_array_equal(status == 0, [True, False])
    np.testing.assert_array_equal(status != 0, [False, True])


def test_the_number_of_steps_may_be_traced_unless_they_are_kept():
    run = jax.jit(lambda n: minimize(rosenbrock, jnp.zeros(2), sgd(1e-3), max_steps=n).steps)
    assert run(3) == 3
    for max_steps, history in ((2.7, False), (-1, False), (jnp.int32(5), True)):
        with pytest.raises(ValueError, match=r"minimize needs .* integer max_steps >= 0, got"):
            minimize(rosenbrock, jnp.zeros(2), sgd(1e-3), max_steps=max_steps, history=history)


def test_a_loss_with_aux_is_named():
    with pytest.raises(ValueError, match="minimize needs fun to return a real scalar, got"):
        minimize(lambda w: (jnp.sum(w), {}), jnp.zeros(2), bfgs())


def with_parts(w, target):
    return jnp.sum((w - target) ** 2), {"distance": w - target, "size": w.size}


@pytest.mark.parametrize("make", [lambda: sgd(0.25), bfgs], ids=["sgd", "bfgs"])
def test_auxiliary_values_are_those_of_the_solution(make):
    run = lambda target: minimize(with_parts, jnp.zeros(2), make(), target, has_aux=True)
    solution = run(3.0)
    np.testing.assert_array_equal(solution.aux["distance"], solution.params - 3)
    assert solution.aux["size"] == 2
    batch = jax.vmap(run)(jnp.arange(3.0))
    np.testing.assert_allclose(batch.aux["distance"], 0, atol=1e-4)
    assert minimize(bowl, jnp.zeros(2), make()).aux is None


@pytest.mark.parametrize(
    ("fun", "has_aux", "message"),
    [
        (lambda w: (bowl(w), {}), False, r"got a tuple \(float32\[\], dict\); .* has_aux=True"),
        (lambda w: (w, w), False, r"got a tuple \(float32\[2\], float32\[2\]\)\."),
        (bowl, True, r"a pair \(value, aux\) under has_aux=True, got float32\[\]"),
        (lambda w: (w, 0), True, r"a real scalar, got float32\[2\]\."),
        (lambda _: None, False, "a real scalar, got NoneType"),
    ],
)
def test_pairs_and_has_aux_must_go_together(fun, has_aux, message):
    with pytest.raises(ValueError, match=f"minimize needs fun to return .*{message}"):
        minimize(fun, jnp.zeros(2), bfgs(), has_aux=has_aux)


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("period", [2, 3])
def test_sharpness_aware_steps_end_where_they_come_down(opaque, period):
    rate, climb, steps = 0.1, 0.05, 7
    sam = optax.contrib.sam(
        optax.sgd(rate), optax.sgd(climb), sync_period=period, opaque_mode=opaque
    )
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by conditions
        solution = minimize(bowl, jnp.zeros(2), sam, max_steps=steps, history=True)
    # the gradient 2 (w - 3) is taken where the distance has grown by 1 + 2 climb a climb
    shrink = 1 - 2 * rate * (1 + 2 * climb) ** (period - 1)
    np.testing.assert_allclose(solution.params, 3 - 3 * shrink**steps, rtol=1e-5)
    assert solution.steps == steps
    if not opaque:
        assert solution.evaluations == 1 + period * steps


def test_sharpness_aware_steps_are_taken_within_a_chain_too():
    sam = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05))
    with jax.numpy_dtype_promotion("standard"):
        chained = minimize(bowl, jnp.zeros(2), optax.chain(optax.identity(), sam), max_steps=7)
        alone = minimize(bowl, jnp.zeros(2), sam, max_steps=7)
    np.testing.assert_allclose(chained.params, alone.params, rtol=1e-6)


REVERSE = {
    "args": lambda z: minimize(lambda w, z: bowl(w - z), jnp.zeros(2), bfgs(), z).params.sum(),
    "closure": lambda z: minimize(lambda w: bowl(w - z), jnp.zeros(2), bfgs()).value,
    "start": lambda z: minimize(bowl, jnp.full(2, z), lbfgs()).params.sum(),
    "rate": lambda z: minimize(bowl, jnp.zeros(2), sgd(z)).value,
    "batch": lambda z: jax.vmap(lambda s: minimize(bowl, s * z, bfgs()).value)(jnp.ones(3)).sum(),
}


@pytest.mark.parametrize("run", REVERSE.values(), ids=REVERSE)
def test_reverse_mode_says_at_once_what_there_is_instead(run):
    for transform in (jax.grad(run), jax.jit(jax.grad(run)), jax.grad(jax.jit(run))):
        with pytest.raises(ValueError, match=r"no reverse-mode.*Implicit\(\).*Minimize.*Forward"):
            transform(0.1)


def test_forward_mode_goes_through_the_loop_and_stopped_gradients_pass():
    def run(z):
        return minimize(lambda w, z: bowl(w) + z * jnp.sum(w**2), jnp.zeros(2), bfgs(), z).params

    # the minimum is 3 / (1 + z)
    np.testing.assert_allclose(jax.jacfwd(run)(0.5), -3 / 1.5**2, rtol=1e-3)
    stopped = jax.grad(lambda z: z * run(jax.lax.stop_gradient(z))[0])(0.5)
    np.testing.assert_allclose(stopped, 2.0, rtol=1e-4)


CURVATURES = np.array([1.0, 3.0, 0.5])


def bent(w, scale):
    c = jnp.asarray(CURVATURES, w.dtype)
    return scale * jnp.sum(c * (w - 1) ** 2 + 0.1 * (w - 1) ** 4)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-10, 1e10, 1e20, 1e25, 1e30])
@pytest.mark.parametrize("make", [bfgs, lbfgs, nonlinear_cg])
def test_the_units_of_the_value_hardly_matter(make, scale):
    start = jnp.array([3.0, -1.0, 2.0])
    plain = minimize(bent, start, make(), 1.0)
    scaled = minimize(bent, start, make(), scale, gtol=1e-4 * scale)
    assert scaled.converged
    # a gradient of 1e-4 at the least curvature 1, in units of the scale
    np.testing.assert_allclose(scaled.params, 1, atol=1.1e-4)
    # the one step whose length nobody knows is the first: 30 evaluations more, and what follows
    assert scaled.steps <= 2 * plain.steps
    assert scaled.evaluations <= 2 * plain.evaluations + 30


@pytest.mark.parametrize("scale", [1e20, 1e25, 1e30])
@pytest.mark.parametrize("make", [bfgs, lbfgs])
def test_no_steps_are_wasted_once_the_solution_is_reached_to_rounding(make, scale):
    quadratic = lambda w, scale: scale * jnp.sum(jnp.asarray(CURVATURES, w.dtype) * (w - 1) ** 2)
    start = jnp.array([3.0, -1.0, 2.0])
    plain = minimize(quadratic, start, make(), 1.0, gtol=0.0, xtol=1e-7)
    # the default gtol is out of reach by rounding: only a gradient of 0 fulfils it
    solution = minimize(quadratic, start, make(), scale)
    assert solution.converged
    assert solution.steps <= plain.steps + 2
    np.testing.assert_allclose(solution.params, 1, atol=4 * np.finfo(np.float32).eps)


FALLING = {
    "linear": lambda w: jnp.sum(w),
    "quartic": lambda w: -jnp.sum((w + 1) ** 4),
}
SEARCHING = [bfgs, lbfgs, nonlinear_cg, newton, newton_cg]


@pytest.mark.parametrize("fun", FALLING.values(), ids=FALLING)
@pytest.mark.parametrize("make", SEARCHING)
def test_a_value_that_falls_without_end_is_told_after_two_searches(make, fun):
    solution = minimize(fun, jnp.zeros(2), make())
    assert int(solution.status) == 8
    assert not solution.converged
    assert "falls" in solution.message
    assert solution.evaluations <= 2 * 30 + 2  # the most that two searches may take
    assert jnp.isfinite(solution.value)


def test_what_falls_within_a_set_ends_at_its_border():
    within = optax.chain(nonlinear_cg(), project(projections.box(-2.0, 2.0)))
    solution = minimize(lambda w: w[0] + 3 * w[1], jnp.zeros(2), within)
    assert solution.converged
    np.testing.assert_array_equal(solution.params, [-2, -2])
