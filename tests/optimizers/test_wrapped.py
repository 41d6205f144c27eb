"""Optimizers within the wrappers of optax: numbers that are arrays, parts of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import Implicit, argmin
from jaxopt_tut.linalg import modified_cholesky_solve
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
    sgd,
    steepest_descent,
    trust_region,
)

inject = optax.inject_hyperparams


def loss(w):
    return sum(jnp.sum((leaf - 1) ** 2) for leaf in jax.tree.leaves(w))


def residuals(w):
    return jnp.concatenate([leaf.ravel() - 1 for leaf in jax.tree.leaves(w)])


INJECTED = {
    "trust_region": lambda: inject(trust_region)(),
    "trust_region_matrix_free": lambda: inject(trust_region)(max_products=5, max_dense=0),
    "newton": lambda: inject(newton)(damping=0.1),
    "newton_solve": lambda: inject(newton, static_args="solve")(solve=modified_cholesky_solve),
    "newton_cg": lambda: inject(newton_cg)(max_products=5),
    "bfgs": lambda: inject(bfgs)(),
    "lbfgs": lambda: inject(lbfgs, static_args="memory")(memory=4),
    "nonlinear_cg": lambda: inject(nonlinear_cg)(),
    "levenberg_marquardt": lambda: inject(levenberg_marquardt)(initial_damping=0.01),
    "gauss_newton": lambda: inject(gauss_newton)(),
    "adam": lambda: inject(adam)(learning_rate=optax.exponential_decay(0.3, 10, 0.7)),
    "momentum": lambda: inject(momentum)(0.3, decay=0.5),
    "steepest_descent": lambda: inject(steepest_descent)(0.3),
    "wolfe": lambda: optax.chain(sgd(1.0), inject(line_search.wolfe)(c1=1e-3)),
    "armijo": lambda: optax.chain(sgd(1.0), inject(line_search.armijo)()),
    "exact": lambda: optax.chain(sgd(1.0), inject(line_search.exact)()),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in INJECTED.items()])
def test_hyperparameters_may_be_injected(make):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        solution = minimize(loss, jnp.zeros(2), make(), max_steps=60, residual_fn=residuals)
    # 60 steps of the slowest, adam: its last learning rate is 0.3 * 0.7^6 = 0.035
    np.testing.assert_allclose(solution.params, 1, atol=0.035)


def test_an_injected_limit_chooses_between_exact_and_truncated_steps():
    def products(max_dense, size=3):
        optimizer = inject(trust_region)(max_dense=max_dense)
        w = jnp.zeros(size)
        state = optimizer.init(w)
        _, state = jax.jit(lambda s: optimizer.update(jax.grad(loss)(w), s, w, value_fn=loss))(
            state
        )
        return int(state.inner_state.num_products)

    with jax.numpy_dtype_promotion("standard"):
        assert products(64) == 3  # the whole Hessian
        assert products(2) == 1  # conjugate gradients end in one step: it is a multiple of 1
        assert products(10**6, size=600) == 1  # too large to be compiled for nothing


def test_a_memory_that_sets_shapes_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r'lbfgs needs .*static_args=\("memory",\)'):
        inject(lbfgs)(memory=5).init(jnp.zeros(2))


PARTS = {
    "lbfgs": lbfgs,
    "bfgs": bfgs,
    "newton": newton,
    "newton_cg": newton_cg,
    "trust_region": trust_region,
    "levenberg_marquardt": levenberg_marquardt,
    "gauss_newton": gauss_newton,
    "nonlinear_cg": nonlinear_cg,
    "armijo": lambda: optax.chain(sgd(1.0), line_search.armijo()),
}
TREE = {"a": jnp.zeros(2), "b": {"c": jnp.zeros(3), "d": jnp.zeros(())}}
LABELS = {"a": "searched", "b": "descended"}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in PARTS.items()])
def test_solvers_see_their_part_while_the_rest_stands_still(make):
    transforms = {"searched": make(), "descended": sgd(0.3)}
    # by its names: a function that could not be called with a part alone
    fun = lambda w: loss({"a": w["a"], "b": w["b"]["c"], "c": w["b"]["d"]})
    rest = lambda w: residuals({"a": w["a"], "b": w["b"]["c"], "c": w["b"]["d"]})
    optimizer = optax.partition(transforms, LABELS)
    solution = minimize(fun, TREE, optimizer, max_steps=60, residual_fn=rest)
    assert solution.converged
    for leaf in jax.tree.leaves(solution.params):
        np.testing.assert_allclose(leaf, 1, atol=1e-4)


def test_all_parts_may_search_and_argmin_shows_parts_too():
    optimizer = optax.partition({"searched": lbfgs(), "descended": newton()}, LABELS)
    fun = lambda w, _=None: loss({"a": w["a"], "b": w["b"]["c"], "c": w["b"]["d"]})
    assert minimize(fun, TREE, optimizer).converged
    result = argmin(fun, TREE, jnp.zeros(()), solver=optimizer, steps=20, diff=Implicit())
    np.testing.assert_allclose(result.y["a"], 1, atol=1e-4)
