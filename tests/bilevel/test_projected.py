"""Inner problems on a set, solved by a chain that ends in a projection."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import Implicit, Minimize, Unroll, argmin, hypergrad
from jaxopt_tut.optimizers import lbfgs, newton, nonlinear_cg, project, projections, sgd

BOX = projections.box(0.0, 1.0)
Z = jnp.array([2.0, 0.5])


def distance(y, z):
    return jnp.sum((y - z) ** 2)


SOLVERS = {
    "chain": optax.chain(sgd(0.1), project(BOX)),
    "named": optax.named_chain(("steps", optax.sgd(0.1)), ("set", project(BOX))),
    "lambda": optax.chain(sgd(0.1), project(lambda y: jnp.clip(y, 0.0, 1.0))),
    "minimize": Minimize(optax.chain(nonlinear_cg(), project(BOX))),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_implicit_derivatives_are_those_of_the_projected_condition(solver):
    run = lambda z: argmin(distance, jnp.zeros(2), z, solver=solver, steps=99, diff=Implicit())
    assert run(Z).info.converged
    np.testing.assert_allclose(run(Z).y, [1.0, 0.5], atol=1e-4)
    # the first target lies outside of the box and moves nothing
    np.testing.assert_allclose(jax.jacrev(lambda z: run(z).y)(Z), np.diag([0.0, 1.0]), atol=1e-6)


def test_a_function_of_hp_may_project_too():
    _, grads, info = hypergrad(
        lambda y, _: jnp.sum(y**2),
        distance,
        jnp.zeros(2),
        Z,
        solver=lambda rate: optax.chain(sgd(rate), project(BOX)),
        steps=99,
        diff=Implicit(),
        hp=0.1,
    )
    np.testing.assert_allclose(grads["z"], [0.0, 1.0], atol=1e-5)
    assert info.converged


def test_implicit_and_unrolled_derivatives_agree_where_coordinates_are_coupled():
    hessian = jnp.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    f = lambda y, z: 0.5 * y @ hessian @ y - z @ y
    solver = optax.chain(sgd(0.2), project(projections.box(0.0, jnp.array([9.0, 0.25, 9.0]))))
    z = jnp.array([-0.3, 1.0, 0.2])

    def jacobian(diff):
        run = lambda z: argmin(f, jnp.ones(3), z, solver=solver, steps=60, diff=diff).y
        return jax.jacrev(run)(z)

    # both coordinates of the coupled pair are at a bound, the third is free
    np.testing.assert_allclose(jacobian(Implicit()), np.diag([0.0, 0.0, 1.0]), atol=1e-6)
    # 60 steps contract by .8
    np.testing.assert_allclose(jacobian(Unroll()), jacobian(Implicit()), atol=2 * 0.8**60)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (optax.chain(newton(), project(BOX)), "argmin needs steps along the gradient"),
        (Minimize(optax.chain(lbfgs(), project(BOX))), "argmin needs steps along the gradient"),
        (
            optax.inject_hyperparams(lambda r: optax.chain(sgd(r), project(BOX)))(0.1),
            "argmin needs project.* as a link of optax.chain",
        ),
    ],
)
def test_what_would_differentiate_another_condition_is_refused(solver, message):
    with pytest.raises(ValueError, match=message):
        argmin(distance, jnp.zeros(2), Z, solver=solver, steps=9, diff=Implicit())
