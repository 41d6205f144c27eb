"""Equations that no solver can solve, or that are none: flags, best points, and sentences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import (
    Anderson,
    Bisection,
    Broyden,
    Implicit,
    LeastSquares,
    Newton,
    NewtonKrylov,
    Picard,
    Plan,
    fixed_point,
    hypergrad,
    root,
)

SOLVERS = {"newton": Newton(), "broyden": Broyden(), "krylov": NewtonKrylov()}


@pytest.mark.parametrize("memory", [1, 5, 50])
def test_a_memory_larger_than_the_dimension_is_only_memory(memory):
    T = lambda y, z: 0.5 * y + jnp.flip(0.2 * y) + z
    result = fixed_point(T, jnp.zeros(2), 0.3, solver=Anderson(memory), steps=40)
    assert bool(result.info.converged)
    np.testing.assert_allclose(result.y, 1.0, rtol=1e-5)


DIVERGING = {
    "linear": lambda y, z: 2 * y + z,
    "exponential": lambda y, z: jnp.exp(y) + z,
    "without a fixed point": lambda y, z: y + jnp.exp(-y) * z,
}


@pytest.mark.parametrize("steps", [3, 300])
@pytest.mark.parametrize("T", DIVERGING.values(), ids=DIVERGING)
def test_a_map_that_does_not_contract_is_flagged_after_its_steps(T, steps):
    result = fixed_point(T, jnp.ones(2), 1.0, solver=Picard(), steps=steps)
    assert not bool(result.info.converged)
    assert int(result.info.steps) == steps
    with pytest.raises(ValueError, match=r"^fixed_point needs a converged inner problem"):
        fixed_point(T, jnp.ones(2), 1.0, solver=Picard(), steps=steps, check=True)


ROOTLESS = {
    "parabola": (lambda y, z: y**2 + z, jnp.array([1.0, 0.5])),
    "exponential": (lambda y, z: jnp.exp(y) + z, jnp.array([1.0, 0.5])),
    "inconsistent": (
        lambda y, z: jnp.array([y[0] + y[1] - z, y[0] + y[1] + z]),
        jnp.array([1.0, -0.4]),
    ),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize(("F", "start"), ROOTLESS.values(), ids=ROOTLESS)
def test_without_a_root_the_end_is_flagged_and_no_worse_than_any_point_met(F, start, solver):
    run = jax.jit(lambda n: root(F, start, 1.0, solver=solver, steps=n), static_argnums=0)
    wanders = isinstance(solver, Broyden)  # may climb on its way; the others look at a 2-norm
    ends = [run(steps) for steps in ((0, 2, 30) if wanders else (30,))]
    for end in ends:
        assert not bool(end.info.converged)
        assert bool(jnp.all(jnp.isfinite(end.y)))
        np.testing.assert_allclose(
            end.info.inner_residual, np.max(np.abs(F(end.y, 1.0))), rtol=1e-5
        )
    sizes = [float(end.info.inner_residual) for end in ends]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_start_without_values_stays_and_is_flagged(solver, steps):
    start = jnp.array([-3.0, 2.0])
    result = root(lambda y, z: jnp.log(y) - z, start, 0.0, solver=solver, steps=steps)
    assert not result.info.converged
    np.testing.assert_array_equal(result.y, start)


@pytest.mark.parametrize("solver", [*SOLVERS.values(), Picard(), Anderson()])
def test_no_equations_of_no_unknowns_are_solved(solver):
    find = root if solver in SOLVERS.values() else fixed_point
    result = find(lambda y, _: y, {"a": jnp.zeros(0), "b": None}, 8.0, solver=solver, steps=3)
    assert result.y["a"].shape == (0,)
    assert result.info.converged


@pytest.mark.parametrize("T", DIVERGING.values(), ids=DIVERGING)
def test_anderson_ends_at_its_best_point_too(T):
    sizes = [
        float(fixed_point(T, jnp.ones(2), 1.0, solver=Anderson(2), steps=n).info.inner_residual)
        for n in (0, 3, 12)
    ]
    assert np.all(np.isfinite(sizes))
    assert sizes[2] <= sizes[1] <= sizes[0]


def test_a_batch_keeps_the_best_point_of_each_lane():
    run = lambda z: root(lambda y, z: y**2 + z, jnp.array(1.5), z, solver=Broyden(), steps=25)
    batch = jax.vmap(run)(jnp.array([-4.0, 1.0]))
    np.testing.assert_array_equal(batch.info.converged, [True, False])
    np.testing.assert_allclose(batch.y[0], 2.0, rtol=1e-6)
    assert batch.info.inner_residual[1] <= 1.5**2 + 1


def twice_the_same(y, z):
    """Two equations of rank 1: all (y, z - y) are roots."""
    return jnp.array([y[0] + y[1] - z, y[0] + y[1] - z])


SINGULAR = {
    "double root": (lambda y, z: (y - z) ** 2, jnp.sum, Newton()),
    "rank 1": (twice_the_same, lambda y: y[0], Broyden()),
}


@pytest.mark.parametrize(("F", "outer", "solver"), SINGULAR.values(), ids=SINGULAR)
def test_a_singular_jacobian_at_the_root_is_flagged_and_least_squares_offered(F, outer, solver):
    start = jnp.array([1.0, 0.5])
    with pytest.warns(match=r"the linear system has no solution.*Implicit\(LeastSquares\(\)\)"):
        *_, info = hypergrad(
            lambda y, _: outer(y),
            F,
            start,
            2.0,
            solver=solver,
            steps=60,
            diff=Implicit(),
            certify=True,
        )
    assert not bool(info.converged)
    assert info.error_estimate == jnp.inf


def test_least_squares_differentiates_what_a_singular_jacobian_determines():
    solve = lambda z: root(
        twice_the_same, jnp.array([1.0, 0.5]), z, steps=9, diff=Implicit(LeastSquares())
    )
    # the sum of both is z
    np.testing.assert_allclose(jax.grad(lambda z: solve(z).y.sum())(2.0), 1.0, rtol=1e-5)


WRONG = {
    "a scalar": (lambda y, _: jnp.sum(y), ValueError, "leaves of the same shape, got"),
    "longer": (lambda y, _: jnp.concatenate([y, y]), ValueError, "leaves of the same shape, got"),
    "a tuple": (lambda y, _: (y,), ValueError, "trees with the same leaves, got"),
    "a list": (lambda y, _: [y[0], y[1]], ValueError, "trees with the same leaves, got"),
    "with aux": (lambda y, _: (y, {}), ValueError, "trees with the same leaves, got"),
    "nothing": (lambda _, __: None, ValueError, "trees with the same leaves, got"),
    "integers": (
        lambda y, _: jnp.sign(y).astype(int),
        TypeError,
        r"an equation of real floating values, got int32 at '\(root\)'",
    ),
    "truth": (lambda y, _: y > 0, TypeError, "of real floating values, got bool"),
    "complex": (
        lambda y, _: jax.lax.complex(y, y),
        TypeError,
        "of real floating values, got complex64",
    ),
}


@pytest.mark.parametrize(("F", "error", "message"), WRONG.values(), ids=WRONG)
def test_an_equation_that_does_not_fit_its_unknowns_is_refused(F, error, message):
    for solve in (root, fixed_point):
        with pytest.raises(error, match=f"^{solve.__name__} needs .*{message}"):
            solve(F, jnp.ones(2), 1.0, steps=3)


def test_complex_equations_of_complex_unknowns_pass():
    result = root(lambda y, z: y**2 - z, jnp.array(0.5 + 0.5j), -1.0 + 0j, steps=20)
    np.testing.assert_allclose(result.y, 1j, atol=1e-5)


BRACKETS = {"not a number": (np.nan, 1.0), "endless": (-np.inf, np.inf), "no sign": (2.0, 3.0)}


@pytest.mark.parametrize("bracket", BRACKETS.values(), ids=BRACKETS)
def test_a_bracket_that_holds_no_change_of_sign_is_flagged(bracket):
    result = root(lambda y, z: y - z, 0.0, 1.0, solver=Bisection(*bracket), steps=30)
    assert not bool(result.info.converged)


def test_a_bracket_may_be_written_from_above():
    result = root(lambda y, z: y - z, 0.0, 1.0, solver=Bisection(3.0, -2.0), steps=30)
    np.testing.assert_allclose(result.y, 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Picard(1.0), ValueError, "Picard needs 0 <= damping < 1, got damping=1.0"),
        (lambda: Picard(-0.5), ValueError, "Picard needs 0 <= damping < 1, got damping=-0.5"),
        (lambda: Picard("half"), TypeError, "Picard needs"),
        (lambda: Anderson(2.5), ValueError, "Anderson needs a whole number memory >= 1, got 2.5"),
        (lambda: Anderson(3, mixing=0.0), ValueError, "Anderson needs mixing > 0, got mixing=0.0"),
        (lambda: Anderson(3, ridge=-1.0), ValueError, "Anderson needs a finite ridge >= 0"),
        (
            lambda: root(lambda y, _: y, {"a": 1.0}, 1.0, solver=Bisection(0, 1), steps=3),
            TypeError,
            "Bisection needs an array of unknowns, got a dict",
        ),
        (
            lambda: Plan("1MB"),
            TypeError,
            "Plan needs memory as a number of bytes, got memory='1MB'",
        ),
        (lambda: Plan(None), TypeError, "Plan needs memory as a number of bytes"),
        (lambda: Plan(True), TypeError, "Plan needs memory as a number of bytes"),
        (lambda: Plan(-1), ValueError, "Plan needs memory > 0 bytes, got memory=-1"),
        (lambda: Plan(np.nan), ValueError, "Plan needs memory > 0 bytes, got memory=nan"),
    ],
)
def test_what_is_no_setting_is_refused_in_a_sentence(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
