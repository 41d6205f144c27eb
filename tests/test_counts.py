"""Numbers of steps may be Python's or NumPy's, and larger than a counter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import linalg
from jaxopt_tut.bilevel import (
    CG,
    GMRES,
    Forward,
    Implicit,
    Minimize,
    Neumann,
    NormalCG,
    OneStep,
    Truncate,
    Unroll,
    argmin,
    bilevel_step,
    hypergrad,
    recipes,
)
from jaxopt_tut.counts import as_limit, whole_number
from jaxopt_tut.optimizers import lbfgs, line_search, minimize, newton_cg, sgd, trust_region

MATRIX, RIGHT = jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.ones(2)
START, Z = jnp.zeros(2), jnp.ones(2)


def matvec(v):
    return MATRIX @ v


def loss(w, target=1.0):
    return jnp.sum((w - target) ** 2)


def outer(y, _):
    return jnp.sum(y**2)


def descended(optimizer, **options):
    return minimize(loss, START, optimizer, **{"max_steps": 3, **options}).params


def derivative(diff, **options):
    options = {"solver": sgd(0.2), "steps": 40, **options}
    _, grads, _ = hypergrad(outer, loss, START, Z, diff=diff, **options)
    return grads["z"]


def stepped(steps):
    options = {"solver": sgd(0.2), "diff": Implicit(), "outer_optimizer": sgd(0.1), "tol": 1e-3}
    step = bilevel_step(outer, loss, steps=steps, **options)
    return step.update(step.init(START, Z))[0].z


TASKS = jnp.array([[1.0, 1.0], [3.0, 3.0]])
FEW = {  # as many rounds, or as many places
    "history": lambda n: descended(sgd(0.1), max_steps=n, history=True),
    "lbfgs": lambda n: descended(lbfgs(memory=n)),
    "neumann": lambda n: linalg.neumann(matvec, RIGHT, num_terms=n, step_size=0.1),
    "largest_eigenvalue": lambda n: linalg.largest_eigenvalue(matvec, RIGHT, num_steps=n),
    "argmin": lambda n: argmin(loss, START, Z, solver=sgd(0.2), steps=n).y,
    "sqrt": lambda n: derivative(Unroll("sqrt"), steps=n),
    "forward": lambda n: derivative(Forward(), steps=n),
    "implicit_neumann": lambda n: derivative(Implicit(Neumann(n))),
    "maml": lambda n: (
        recipes.maml(
            loss,
            START,
            TASKS,
            TASKS,
            solver=sgd(0.1),
            inner_steps=n,
            optimizer=sgd(0.1),
            num_steps=n,
        ).value
    ),
    "learn_schedule": lambda n: (
        recipes.learn_schedule(loss, START, inner_steps=n, optimizer=sgd(0.1), num_steps=n).value
    ),
}
LIMITS = {  # at most so many
    "minimize": lambda n: descended(sgd(0.1), gtol=1e-2, max_steps=n),
    "trust_region": lambda n: descended(trust_region(max_products=n, max_dense=0)),
    "newton_cg": lambda n: descended(newton_cg(max_products=n)),
    "wolfe": lambda n: descended(optax.chain(sgd(1.0), line_search.wolfe(max_evaluations=n))),
    "armijo": lambda n: descended(optax.chain(sgd(1.0), line_search.armijo(max_evaluations=n))),
    "exact": lambda n: descended(optax.chain(sgd(1.0), line_search.exact(max_evaluations=n))),
    "cg": lambda n: linalg.cg(matvec, RIGHT, tol=1e-5, max_steps=n).x,
    "normal_cg": lambda n: linalg.normal_cg(matvec, RIGHT, tol=1e-5, max_steps=n).x,
    "linalg_gmres": lambda n: linalg.gmres(matvec, RIGHT, tol=1e-5, max_steps=n).x,
    "truncated_cg": lambda n: linalg.truncated_cg(matvec, RIGHT, tol=1e-5, max_steps=n).step,
    "hypergrad": lambda n: derivative(Implicit(), steps=n, tol=1e-3),
    "one_step": lambda n: derivative(OneStep(), steps=n, tol=1e-3),
    "truncate": lambda n: derivative(Truncate(n)),
    "levels": lambda n: derivative(Unroll(n)),
    "implicit_cg": lambda n: derivative(Implicit(CG(n))),
    "implicit_normal_cg": lambda n: derivative(Implicit(NormalCG(n))),
    "gmres": lambda n: derivative(Implicit(GMRES(max_steps=n))),
    "minimize_inside": lambda n: derivative(Implicit(), solver=Minimize(lbfgs()), steps=n),
    "bilevel_step": stepped,
}


QUICK = {"lbfgs", "argmin", "minimize", "hypergrad", "cg", "wolfe", "levels", "bilevel_step"}


def cases(uses):
    return [
        pytest.param(use, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, use in uses.items()
    ]


@pytest.mark.parametrize("use", cases(FEW | LIMITS))
def test_numpy_counts_are_those_of_python(use):
    expected = use(20)
    for count in (np.int64(20), np.array(20, np.uint8)):
        np.testing.assert_array_equal(use(count), expected)


@pytest.mark.parametrize("use", cases(LIMITS))
def test_a_limit_beyond_the_counter_is_none(use):
    expected = use(2**31 - 1)
    for count in (2**31, np.int64(2**40)):
        np.testing.assert_allclose(use(count), expected, rtol=1e-6)


def test_a_traced_limit_of_64_bits_is_cut_too():
    with jax.enable_x64(True):
        for limit, expected in ((2**40, 2**31 - 1), (-(2**40), 1 - 2**31), (5, 5)):
            found = jax.jit(as_limit)(jnp.asarray(limit, jnp.int64))
            assert (found.dtype, int(found)) == (jnp.int32, expected)
        run = jax.jit(lambda n: descended(sgd(0.1), max_steps=n))
        np.testing.assert_array_equal(run(jnp.int64(2**40)), run(jnp.int64(2**31 - 1)))


@pytest.mark.parametrize("value", [5.0, True, "5", None, np.float64(5), np.ones(1, int)], ids=repr)
def test_what_is_no_count_is_refused_by_value(value):
    assert whole_number(value) is None
    with pytest.raises(ValueError, match=r"argmin needs a whole number steps >= 0, got steps="):
        argmin(loss, START, Z, solver=sgd(0.2), steps=value)
    with pytest.raises(ValueError, match="minimize needs an integer max_steps >= 0, got"):
        minimize(loss, START, sgd(0.2), max_steps=value)
