"""jaxopt as an oracle: the same problem, the same answer, the same derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.peers import jaxopt_losses, jaxopt_sets
from tests.peers.jaxopt_case import SOLVED

CASES = [
    *jaxopt_sets.CASES,
    *jaxopt_losses.LOSSES,
    *jaxopt_losses.OBJECTIVES,
    *jaxopt_losses.TREES,
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


def backwards(fun, args):
    value, pull = jax.vjp(fun, *args)
    return value, pull(directions(value))


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
    expected = called(lambda *args: backwards(case.theirs, args), case.jit)(*args)
    assert_near((value, grads), expected, case.tol)
    if case.forward:
        push = lambda *args: jax.jvp(case.theirs, args, directions(args))[1]
        assert_near(tangent, called(push, case.jit)(*args), case.tol)
    else:  # forward mode must be the transpose of what both agree on
        pulled, pushed = product(directions(args), grads), product(directions(value), tangent)
        np.testing.assert_allclose(pulled, pushed, rtol=SOLVED, atol=SOLVED)
