"""Bounded solutions as functions of their bounds: derivatives, multipliers, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Implicit, Minimize, Proximal, Unroll, argmin, hypergrad
from jaxopt_tut.optimizers import bfgs, lbfgsb, sgd

HESSIAN = np.array([[4.0, 1.0, -1.0], [1.0, 3.0, 0.5], [-1.0, 0.5, 2.0]])
PULL = np.array([9.0, -1.0, -6.0])
BOUNDS = {"lower": np.array([-5.0, -5.0, -1.0]), "upper": np.array([1.5, 5.0, 5.0])}
ACTIVE = np.array([True, False, True])  # the upper bound of the first, the lower of the last
SOLVERS = {"lbfgsb": lbfgsb(), "projected": sgd(0.2)}


def loss(y, z):
    hessian, pull = (jnp.asarray(array, y.dtype) for array in (HESSIAN, PULL))
    return 0.5 * y @ hessian @ y - (pull + z["shift"]) @ y


def exact():
    """Return the solution, its derivatives in each bound that holds and in the shift, in NumPy."""
    y = np.where(PULL > 0, BOUNDS["upper"], BOUNDS["lower"])
    free = ~ACTIVE
    inner, outer = HESSIAN[np.ix_(free, free)], HESSIAN[np.ix_(free, ACTIVE)]
    y[free] = np.linalg.solve(inner, PULL[free] - outer @ y[ACTIVE])
    in_bounds, in_shift = np.zeros((3, 3)), np.zeros((3, 3))
    in_bounds[np.ix_(ACTIVE, ACTIVE)] = np.eye(2)
    in_bounds[np.ix_(free, ACTIVE)] = -np.linalg.solve(inner, outer)
    in_shift[np.ix_(free, free)] = np.linalg.inv(inner)
    return y, in_bounds, in_shift


def at(dtype):
    bounds = {name: jnp.asarray(bound, dtype) for name, bound in BOUNDS.items()}
    return bounds | {"shift": jnp.zeros(3, dtype)}


def bounds_of(z):
    return z["lower"], z["upper"]


def solve(z, optimizer=SOLVERS["lbfgsb"]):
    solver = Minimize(optimizer, bounds=bounds_of)
    start = jnp.zeros_like(z["shift"])
    return argmin(loss, start, z, solver=solver, steps=300, diff=Implicit())


@pytest.mark.parametrize("optimizer", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("is_double", [False, True], ids=["float32", "float64"])
def test_a_solution_moves_with_the_bounds_that_hold_alone(optimizer, is_double):
    with jax.enable_x64(is_double):
        z = at(jnp.float64 if is_double else jnp.float32)
        result = solve(z, optimizer)
        y, in_bounds, in_shift = exact()
        assert result.info.converged
        # the default gtol over the least curvature, 1.2
        np.testing.assert_allclose(result.y, y, atol=1e-6 if is_double else 1e-4)
        # of linear systems of condition number below ten
        atol = 100 * float(jnp.finfo(z["shift"].dtype).eps)
        found = jax.jacrev(lambda z: solve(z, optimizer).y)(z)
        upper = np.array([True, False, False])
        np.testing.assert_allclose(found["upper"], in_bounds * upper, atol=atol)
        np.testing.assert_allclose(found["lower"], in_bounds * ~upper, atol=atol)
        np.testing.assert_allclose(found["shift"], in_shift, atol=atol)


def test_forwards_and_backwards_agree_and_batches_are_solved_at_once():
    z = at(jnp.float32)
    forwards, backwards = (mode(lambda z: solve(z).y)(z) for mode in (jax.jacfwd, jax.jacrev))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), forwards, backwards)
    shifts = jnp.array([[0.0, 0.0, 0.0], [-20.0, 0.0, 0.0]])
    slope = lambda shift: jax.jacrev(lambda z: solve(z).y)(z | {"shift": shift})["upper"]
    # pulled the other way, the first coordinate leaves its upper bound
    np.testing.assert_allclose(jax.jit(jax.vmap(slope))(shifts)[:, 0, 0], [1.0, 0.0], atol=1e-5)


def test_the_least_value_changes_with_a_bound_by_its_multiplier():
    with jax.enable_x64(True):
        z = at(jnp.float64)
        solver = Minimize(lbfgsb(), bounds=bounds_of)
        options = {"solver": solver, "steps": 99, "diff": Implicit(), "tol": 1e-12}
        _, grads, info = hypergrad(loss, loss, jnp.zeros(3), z, **options)
        grads, y = grads["z"], exact()[0]
        slope = HESSIAN @ y - PULL  # minus the multiplier of an upper bound, plus a lower one's
        np.testing.assert_allclose(grads["upper"], [slope[0], 0, 0], atol=1e-10)
        np.testing.assert_allclose(grads["lower"], [0, 0, slope[2]], atol=1e-10)
        np.testing.assert_allclose(grads["shift"], -y, atol=1e-10)
        assert info.converged


def test_agrees_with_projected_steps_that_are_unrolled():
    z = at(jnp.float32)
    clip = lambda y, z, _: jnp.clip(y, *bounds_of(z))
    steps = lambda z: argmin(loss, jnp.zeros(3), z, solver=Proximal(clip, 0.2), steps=100).y
    ours = jax.jacrev(lambda z: solve(z).y)(z)
    theirs = jax.jacrev(steps)(z)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


def test_bounds_that_depend_on_nothing_are_a_pair_too():
    solver = Minimize(lbfgsb(), bounds=(None, 1.0))
    f = lambda y, z: jnp.sum((y["a"] - z) ** 2)
    run = lambda z: argmin(
        f, {"a": jnp.zeros(2), "none": None}, z, solver=solver, steps=20, diff=Implicit()
    )
    z = jnp.array([3.0, 0.25])
    np.testing.assert_allclose(run(z).y["a"], [1.0, 0.25], atol=1e-4)
    np.testing.assert_allclose(jax.jacrev(lambda z: run(z).y["a"])(z), np.diag([0, 1]), atol=1e-6)


def test_a_bound_that_is_closed_over_is_not_lost_in_silence():
    def closed(bound):
        solver = Minimize(lbfgsb(), bounds=(None, bound))
        f = lambda y, z: (y - z) ** 2
        return argmin(f, 0.0, 3.0, solver=solver, steps=20, diff=Implicit()).y

    with pytest.raises(ValueError, match="closes over"):
        jax.grad(closed)(1.0)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Minimize(bfgs(), bounds=(0.0, 1.0)), "needs steps along the gradient before project"),
        (Minimize(lbfgsb(), bounds=(1.0, 0.0)), "minimize needs lower <= upper, got lower=1.0"),
        (Minimize(lbfgsb(), bounds=lambda z: z), "needs bounds="),
    ],
    ids=["metric", "empty", "no pair"],
)
def test_bounds_that_cannot_be_kept_are_refused(solver, message):
    f = lambda y, z: (y - z) ** 2
    with pytest.raises((TypeError, ValueError), match=message):
        argmin(f, 0.0, 3.0, solver=solver, steps=20, diff=Implicit())


def test_steps_cannot_be_differentiated_under_bounds_either():
    solver = Minimize(lbfgsb(), bounds=lambda z: (None, z))
    run = lambda z: argmin(lambda y, _: (y - 3) ** 2, 0.0, z, solver=solver, steps=9, diff=Unroll())
    with pytest.raises(ValueError, match="Unroll needs a solver whose steps can be differentiated"):
        jax.grad(lambda z: run(z).y)(1.0)
