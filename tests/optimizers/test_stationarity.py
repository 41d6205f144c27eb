"""Where descent has arrived in a set, and which steps arrive elsewhere."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.optimizers import (
    adam,
    bfgs,
    gauss_newton,
    lbfgs,
    levenberg_marquardt,
    line_search,
    minimize,
    momentum,
    newton,
    newton_cg,
    nonlinear_cg,
    norms,
    project,
    projections,
    sgd,
    stationarity,
    steepest_descent,
    trust_region,
)

# the minimum over w >= 0 is (0, 1.1): there the gradient is (1.9, 0); newton's projected steps
# from (1, 1) end at (0, 2)
HESSIAN, LINEAR = np.array([[10.0, 9.0], [9.0, 10.0]]), np.array([8.0, 11.0])
BOX = projections.box(0.0, jnp.inf)


def quadratic(w):
    return 0.5 * w @ jnp.asarray(HESSIAN, w.dtype) @ w - jnp.asarray(LINEAR, w.dtype) @ w


def residuals(w):  # half their squares is the quadratic and a constant
    root = np.linalg.cholesky(HESSIAN)
    return jnp.asarray(root.T, w.dtype) @ w - jnp.asarray(np.linalg.solve(root, LINEAR), w.dtype)


class OwnState(NamedTuple):
    metric = "dense"


OWN = optax.GradientTransformation(lambda _: OwnState(), lambda g, state, _=None: (g, state))
DENSE = {
    "newton": newton(),
    "newton_cg": newton_cg(),
    "trust_region": trust_region(),
    "bfgs": bfgs(),
    "lbfgs": lbfgs(),
    "gauss_newton": gauss_newton(),
    "levenberg_marquardt": levenberg_marquardt(),
    "steepest_descent": steepest_descent(0.1, norm=norms.L1()),
    "own": OWN,
    "scale_by_lbfgs": optax.scale_by_lbfgs(),
    "muon": optax.contrib.muon(0.1),
}
WRAPPERS = {
    "chain": optax.chain,
    "nested": lambda a, p: optax.chain(optax.chain(optax.identity(), a), optax.chain(p)),
    "named": lambda a, p: optax.named_chain(("steps", a), ("set", p)),
    "injected": lambda a, p: optax.chain(optax.inject_hyperparams(lambda _: a)(1.0), p),
    "first": lambda a, p: optax.chain(p, a),
    "masked": lambda a, p: optax.chain(optax.masked(a, True), p),
    "finite": lambda a, p: optax.apply_if_finite(optax.chain(a, p), 3),
}


@pytest.mark.parametrize("solver", DENSE.values(), ids=DENSE)
def test_a_metric_of_its_own_before_a_projection_is_refused_and_what_is_right_named(solver):
    with pytest.raises(ValueError, match=r"minimize needs steps along the gradient.*nonlinear_cg"):
        minimize(quadratic, jnp.ones(2), optax.chain(solver, project(BOX)), residual_fn=residuals)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_it_is_refused_however_the_two_are_put_together(wrap):
    optimizer = wrap(newton(), project(BOX))
    with pytest.raises(ValueError, match=r"stationarity needs steps along the .* newton,"):
        stationarity(optimizer, jnp.ones(2), jnp.ones(2))


RIGHT = {
    "sgd": sgd(0.05),
    "momentum": momentum(0.05),
    "nonlinear_cg": nonlinear_cg(),
    "armijo": optax.chain(sgd(1.0), line_search.armijo()),
    "adam": adam(0.05),
    "optax": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.05)),
}


def test_a_projection_is_found_in_an_accumulation():
    chained = optax.chain(sgd(0.1), project(projections.box(0.0, 1.0)))
    accumulated = optax.MultiSteps(chained, 2).gradient_transformation()
    with jax.numpy_dtype_promotion("standard"):  # optax divides by counts
        solution = minimize(lambda w: jnp.sum((w - 3.0) ** 2), jnp.zeros(2), accumulated)
    assert int(solution.status) == 0
    np.testing.assert_array_equal(solution.params, [1.0, 1.0])


@pytest.mark.parametrize("steps", RIGHT.values(), ids=RIGHT)
def test_what_is_right_converges_to_the_minimum_on_the_bound(steps):
    solution = minimize(quadratic, jnp.ones(2), optax.chain(steps, project(BOX)))
    assert int(solution.status) == 0
    # the free coordinate's gradient is 10 times its distance
    np.testing.assert_allclose(solution.params, [0.0, 1.1], atol=1e-4 / 10)
    left = solution.params - BOX(solution.params - jax.grad(quadratic)(solution.params))
    np.testing.assert_allclose(solution.grad_norm, np.max(np.abs(left)), atol=1e-5)


@pytest.mark.parametrize(
    ("projection", "point", "grad", "left"),
    [
        (projections.box(-1.0, 1.0), [1.0, 0.0], [-5.0, 0.5], [0.0, 0.5]),
        (projections.simplex(), [0.5, 0.5], [3.0, 3.0], [0.0, 0.0]),
        (projections.simplex(), [0.5, 0.5], [0.2, 0.0], [0.1, -0.1]),
        (projections.ball(1.0), [0.6, 0.8], [-6.0, -8.0], [0.0, 0.0]),
        (projections.half_space(jnp.array([0.0, 1.0]), 1.0), [0.3, 1.0], [0.25, -9.0], [0.25, 0]),
        (lambda w: jnp.maximum(w, 0), [0.0, 2.0], [1.0, 0.5], [0.0, 0.5]),
    ],
)
def test_what_is_left_to_do_is_the_gradient_within_the_set(projection, point, grad, left):
    optimizer = optax.chain(sgd(0.1), project(projection))
    found = stationarity(optimizer, jnp.array(point), jnp.array(grad))
    np.testing.assert_allclose(found, left, atol=1e-6)


def test_the_projection_of_optax_is_one():
    within = optax.keep_params_nonnegative()
    with pytest.raises(ValueError, match=r"needs steps along the gradient .* got newton"):
        minimize(quadratic, jnp.ones(2), optax.chain(newton(), within))
    solution = minimize(quadratic, jnp.ones(2), optax.chain(sgd(0.05), within))
    assert solution.converged
    # what is left is at most gtol = 1e-4, and the curvature along the bound is 10
    np.testing.assert_allclose(solution.params, [0.0, 1.1], atol=1.1e-5)


def test_several_projections_are_one_after_the_other():
    two = optax.chain(sgd(1.0), project(projections.box(0.0, 9.0)), project(projections.box(-9, 2)))
    found = stationarity(two, jnp.array([0.0, 2.0, 1.0]), jnp.array([3.0, -3.0, 0.5]))
    np.testing.assert_allclose(found, [0.0, 0.0, 0.5])


def test_a_small_gradient_is_not_lost_beside_large_parameters():
    optimizer = optax.chain(sgd(0.1), project(projections.box(0.0, 1e9)))
    np.testing.assert_array_equal(
        stationarity(optimizer, jnp.array([1e8]), jnp.array([1e-3])), jnp.array([1e-3])
    )


def test_without_a_projection_it_is_the_gradient():
    tree = {"a": jnp.array([1.0 + 2.0j]), "b": None, "c": jnp.zeros((0, 2))}
    found = stationarity(newton(), tree, tree)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    np.testing.assert_array_equal(found["a"], tree["a"])


def test_steps_by_coordinate_need_a_box():
    for optimizer in (adam(0.1), optax.rmsprop(0.1), steepest_descent(0.1, norm=norms.LInf())):
        with pytest.raises(ValueError, match="minimize needs a projection onto a box behind"):
            minimize(quadratic, jnp.ones(2), optax.chain(optimizer, project(projections.simplex())))
        inside = optax.chain(optimizer, project(projections.ball(1.0, norms.LInf())))
        assert stationarity(inside, jnp.ones(2), -jnp.ones(2)).tolist() == [0.0, 0.0]


def test_parameters_with_rules_of_their_own_are_not_mixed_up():
    w = {"bounded": jnp.ones(2), "free": jnp.ones(2)}
    rules = {"a": optax.chain(sgd(0.1), project(BOX)), "b": newton()}
    optimizer = optax.partition(rules, {"bounded": "a", "free": "b"})
    with pytest.raises(ValueError, match=r"stationarity needs project.* as a link of optax.chain"):
        stationarity(optimizer, w, w)  # allowed, but the set is that of one part


def test_undeclared_steps_that_stand_still_elsewhere_have_not_converged():
    turned = optax.stateless(lambda g, _: -jnp.linalg.solve(jnp.asarray(HESSIAN, g.dtype), g))
    solution = minimize(quadratic, jnp.ones(2), optax.chain(turned, project(BOX)), xtol=1e-7)
    np.testing.assert_allclose(solution.params, [0.0, 2.0], atol=1e-5)
    assert not solution.converged
    assert int(solution.status) == 7
    assert "projected gradient is larger than gtol" in solution.message


def test_momentum_that_points_over_a_bound_for_a_while_is_waited_for():
    def turning(w):  # flat far out; the bound is met with much momentum, the minimum lies before it
        return jnp.sum(jnp.sqrt(1 + (w - 0.9) ** 2))

    optimizer = optax.chain(momentum(0.5, decay=0.95), project(projections.box(-9.0, 1.0)))
    solution = minimize(turning, jnp.array([-8.0]), optimizer, xtol=1e-9)
    assert solution.converged
    np.testing.assert_allclose(solution.params, 0.9, atol=2e-4)


SETS = {
    "box": projections.box(-0.5, 0.5),
    "simplex": projections.simplex(),
    "ball": projections.ball(0.7),
}
SEARCHES = {
    "nonlinear_cg": nonlinear_cg(),
    "wolfe": optax.chain(sgd(1.0), line_search.wolfe()),
    "exact": optax.chain(sgd(1.0), line_search.exact()),
}


def drawn_quadratics(count, dim):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(count, dim, dim))
    hessians = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(dim)
    return jnp.array(hessians), jnp.array(3 * rng.normal(size=(count, dim)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("search", "onto"),
    [
        pytest.param(search, onto, marks=() if at == (0, 0) else pytest.mark.slow, id=f"{s}-{o}")
        for i, (s, search) in enumerate(SEARCHES.items())
        for j, (o, onto) in enumerate(SETS.items())
        for at in [(i, j)]
    ],
)
def test_a_search_before_a_projection_arrives_on_any_convex_quadratic(search, onto):
    # most of these never arrive where the search looks beyond the set
    hessians, linear = drawn_quadratics(60, 5)
    bowl = lambda w, h, c: 0.5 * w @ h @ w - c @ w
    run = lambda h, c: minimize(
        bowl, jnp.full(5, 0.2), optax.chain(search, project(onto)), h, c, max_steps=5000
    )
    solution = jax.jit(jax.vmap(run))(hessians, linear)
    # conjugate directions are none on the face of a set, and may end in a step that is too short
    assert np.mean(solution.converged) >= (0.95 if search is SEARCHES["nonlinear_cg"] else 1)
    w = solution.params
    left = jax.vmap(lambda w, h, c: w - onto(w - (h @ w - c)))(w, hessians, linear)
    # which for convex functions tells a minimum
    assert np.max(np.abs(left)[np.asarray(solution.converged)]) <= 1e-6
