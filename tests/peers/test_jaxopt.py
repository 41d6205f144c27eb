"""jaxopt as an oracle: the same problem, the same answer, the same derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.peers import (
    jaxopt_equations,
    jaxopt_losses,
    jaxopt_programs,
    jaxopt_sets,
    jaxopt_solvers,
)
from tests.peers.jaxopt_case import SOLVED
from tests.peers.jaxopt_wrong import WRONG

# of its isotonic regression: without the compiler it would like it takes Python, and its derivative
# hands floating numbers where JAX wants integers
pytestmark = [
    pytest.mark.filterwarnings("ignore:Numba could not be imported:UserWarning"),
    pytest.mark.filterwarnings("ignore:jax.nn.one_hot input should be:DeprecationWarning"),
]

CASES = [
    *jaxopt_sets.CASES,
    *jaxopt_losses.LOSSES,
    *jaxopt_losses.OBJECTIVES,
    *jaxopt_losses.TREES,
    *jaxopt_solvers.SMOOTH,
    *jaxopt_solvers.CONSTRAINED,
    *jaxopt_solvers.FITS,
    *jaxopt_equations.IMPLICIT,
    *jaxopt_equations.LINEAR,
    *jaxopt_equations.FIXED,
    *jaxopt_programs.PROGRAMS,
    *jaxopt_programs.SEARCHES,
]
MARKED = [pytest.param(case, id=case.there, marks=[pytest.mark.slow] * case.slow) for case in CASES]


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_near(here, there, tol):
    assert jax.tree.structure(here) == jax.tree.structure(there)
    for a, b in zip(leaves(here), leaves(there), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tol * max(1.0, np.abs(b).max(initial=0.0)))


def product(a, b):
    return sum(np.vdot(*pair) for pair in zip(leaves(a), leaves(b), strict=True))


def directions(args):
    """Return tangents or cotangents, of which no two parts are alike."""
    flat, unravel = ravel_pytree(args)
    return unravel(jnp.cos(jnp.arange(1, 1 + flat.size, dtype=flat.dtype)))


def both_ways(fun, args):
    """Return the value, the gradients and the tangent, from one run of the function."""
    value, push = jax.linearize(fun, *args)
    pull = jax.linear_transpose(push, *args)
    return value, pull(directions(value)), push(*directions(args))


def as_jaxopt(fun, args, forward):
    """Return the same of jaxopt's, without the tangent where it has no forward mode."""
    value, pull = jax.vjp(fun, *args)
    tangent = jax.jvp(fun, args, directions(args))[1] if forward else None
    return value, pull(directions(value)), tangent


def called(fun, jit):
    """Call what jaxopt does, which promotes dtypes as it likes."""

    def call(*args):
        with jax.numpy_dtype_promotion("standard"):
            return (jax.jit(fun) if jit else fun)(*args)

    return call


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", MARKED)
def test_same_answer_and_derivative(case):
    args = jax.tree.map(jnp.asarray, case.args)
    if not case.derivative:
        assert_near(case.ours(*args), called(case.theirs, case.jit)(*args), case.tol)
        return
    value, grads, tangent = jax.jit(lambda args: both_ways(case.ours, args))(args)
    compared = called(lambda *args: as_jaxopt(case.theirs, args, case.forward), case.jit)(*args)
    assert_near((value, grads), compared[:2], case.tol)
    if case.forward:
        assert_near(tangent, compared[2], case.tol)
    else:  # forward mode must be the transpose of what both agree on
        pulled, pushed = product(directions(args), grads), product(directions(value), tangent)
        np.testing.assert_allclose(pulled, pushed, rtol=SOLVED, atol=SOLVED)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.there)
def test_right_where_jaxopt_is_not(case):
    assert_near(np.asarray(case.ours()), case.right, case.tol)
    try:
        there = np.asarray(called(case.theirs, jit=False)())
    except (TypeError, ValueError):
        return
    assert not np.allclose(there, case.right, rtol=0.01, atol=0.01)


def test_there_are_enough_comparisons():
    assert len(CASES) >= 60
    assert len({case.there for case in CASES}) == len(CASES)
