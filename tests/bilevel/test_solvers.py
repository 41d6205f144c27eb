"""Solvers of one's own, and what may be passed as one."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import Implicit, Minimize, OneStep, Solver, Truncate, Unroll, argmin
from jaxopt_tut.bilevel.solvers import as_solver, size_of
from jaxopt_tut.optimizers import sgd


@dataclass(frozen=True)
class Newton(Solver):
    """Newton's method in one variable: all that has to be said is the step."""

    def step(self, objective, y, state, _hp):
        slope = jax.grad(objective)(y)
        return y - slope / jax.grad(jax.grad(objective))(y), state, jnp.abs(slope)


@dataclass(frozen=True)
class Root(Newton):
    """The same for `f(y, z) = 0`, whose residual is the function itself."""

    def step(self, objective, y, state, _hp):
        value, slope = jax.value_and_grad(objective)(y)
        return y - value / slope, state, jnp.abs(value)

    def residual(self, objective, y, _hp):
        return objective(y)


MODES = [Unroll(), Truncate(1), Implicit(), OneStep()]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: type(mode).__name__)
@pytest.mark.parametrize("solver", [Newton(), Root()], ids=["minimum", "root"])
def test_a_solver_that_says_how_it_steps_gets_every_mode(solver, mode):
    # y**3 = z, as a minimum and as a root; the derivative of the root is z**(-2/3) / 3
    f = lambda y, z: y**4 / 4 - z * y if type(solver) is Newton else y**3 - z
    solve = lambda z: argmin(f, 1.5, z, solver=solver, steps=8, diff=mode)
    result = solve(8.0)
    np.testing.assert_allclose(result.y, 2.0, rtol=1e-5)
    assert result.info.converged
    np.testing.assert_allclose(jax.grad(lambda z: solve(z).y)(8.0), 1 / 12, rtol=1e-4)


@pytest.mark.parametrize(
    ("solver", "hp", "error", "match"),
    [
        (optax.sgd, None, ValueError, r"argmin needs hp=\.\.\. for a solver that is a function"),
        (sgd(0.1), 0.1, ValueError, "argmin needs a solver that is a function hp -> transf.*given"),
        (3, None, TypeError, "argmin needs an optax transformation, .* or a Solver, got solver=3"),
        (Minimize, None, TypeError, "argmin needs an optax transformation, .* got solver=<class"),
    ],
    ids=["no_hp", "idle_hp", "number", "class"],
)
def test_what_is_no_solver_is_refused(solver, hp, error, match):
    with pytest.raises(error, match=match):
        as_solver(solver, hp, "argmin")


def test_the_size_of_a_tree_is_its_largest_component():
    assert size_of({"a": jnp.array([1.0, -3.0]), "b": jnp.zeros(0)}) == 3.0
    assert size_of(()) == 0.0
    assert jnp.isnan(size_of([jnp.array([1.0, jnp.nan])]))
