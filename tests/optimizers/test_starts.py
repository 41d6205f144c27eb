"""Starts as users write them: lists, integers, scalars, trees; and what is no start."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers import bfgs, lbfgsb, minimize

Pair = collections.namedtuple("Pair", "a b")


def bowl(w):
    return jnp.sum((w - 3) ** 2)


def bowls(tree):
    return sum(map(bowl, jax.tree.leaves(tree)))


ARRAYS = {
    "list": [0.0, 0.0],
    "list of integers": [0, 1],
    "list of mixed numbers": [np.float32(0.5), 2],
    "tuple": (0.0, 1.0),
    "tuple of integers": (2, 0),
    "nested list": [[0, 1], [2, 3]],
    "nested tuple": ((0, 1.0), (2, 3)),
    "list of one": [0],
    "integer": 0,
    "numpy integer": np.int64(1),
    "float": 0.5,
    "numpy float": np.float64(0.5),
    "int64": np.array([0, 1], np.int64),
    "uint8": np.array([0, 1], np.uint8),
    "no axes": np.array(2),
    "integers of JAX": jnp.arange(2),
    "matrix": np.asarray([[1, 2], [3, 4]]).view(np.matrix),
    "masked array without a mask": np.ma.array([1.0, 2.0]),
    "read only": np.broadcast_to(np.float32(1), (3,)),
    "strided": np.arange(6.0)[::-2],
}


@pytest.mark.parametrize("start", ARRAYS.values(), ids=ARRAYS)
def test_numbers_become_a_floating_array_of_their_shape(start):
    solution = minimize(bowl, start, bfgs())
    assert isinstance(solution.params, jax.Array)
    assert solution.params.shape == np.shape(start)
    assert solution.params.dtype == jnp.float32
    np.testing.assert_allclose(solution.params, 3, rtol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("start", [[0, 1], (0.5, 1), np.arange(2), 3], ids=str)
def test_they_are_double_where_jax_is(start):
    assert minimize(bowl, start, bfgs()).params.dtype == jnp.float64


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_a_floating_start_keeps_its_precision(dtype):
    solution = minimize(bowl, jnp.zeros(2, dtype), bfgs(), gtol=0.1)
    assert solution.params.dtype == dtype
    # a gradient 2 (w - 3) of .1, and rounding
    np.testing.assert_allclose(np.asarray(solution.params, float), 3, atol=0.05 + 3 * 2**-8)


TREES = {
    "dict of numbers": {"a": 1, "b": 2.0},
    "dict with arrays": {"a": 1, "b": np.array([1.0, 2.0])},
    "named tuple of numbers": Pair(1, 2.0),
    "list of arrays": [jnp.zeros(2), jnp.zeros(())],
    "tuple of arrays": (np.zeros(2), np.zeros(3)),
    "ragged list": [[1.0, 2.0], [3.0]],
    "tuple of an array and a number": (np.zeros(2), 1),
    "with None": {"a": jnp.zeros(2), "b": None},
    "a dict in a list": [{"a": 1}],
}


@pytest.mark.parametrize("start", TREES.values(), ids=TREES)
def test_other_containers_are_trees(start):
    found = minimize(bowls, start, bfgs()).params
    assert jax.tree.structure(found) == jax.tree.structure(start)
    for leaf, first in zip(jax.tree.leaves(found), jax.tree.leaves(start), strict=True):
        assert leaf.shape == np.shape(first)
        np.testing.assert_allclose(leaf, 3, rtol=1e-5)


def test_integers_may_be_traced():
    run = lambda start: minimize(bowl, start, bfgs()).params
    np.testing.assert_allclose(jax.jit(run)(jnp.arange(2)), 3, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(run)(jnp.arange(3)), 3, rtol=1e-5)


def test_bounds_hold_on_what_was_an_integer():
    solution = minimize(bowl, [0, 1], lbfgsb(), bounds=(0, 2))
    np.testing.assert_array_equal(solution.params, [2, 2])
    tree = {"n": jnp.arange(2), "w": jnp.ones(2)}
    with pytest.raises(TypeError, match="got int32 at 'n'"):
        minimize(bowls, tree, lbfgsb(), bounds=(0, 2))


REFUSED = {
    "None": (None, ValueError, "at least one parameter, got None"),
    "empty list": ([], ValueError, "at least one parameter, got an empty tree"),
    "empty tuple": ((), ValueError, "at least one parameter, got an empty tree"),
    "empty dict": ({}, ValueError, "at least one parameter, got an empty tree"),
    "empty array": (np.zeros(0), ValueError, "at least one parameter, got an empty tree"),
    "list of nothing": ([None, []], ValueError, "at least one parameter, got an empty tree"),
    "string": ("0.5", TypeError, r"complex parameters, got str '0.5' at '\(root\)'"),
    "list of strings": (["a", 1], TypeError, "got str 'a' at '0'"),
    "truth value": (True, TypeError, "got bool"),
    "list of truth values": ([True, False], TypeError, "got bool"),
    "array of truth values": (np.array([True]), TypeError, "got bool"),
    "objects": (np.array([None, 1]), TypeError, r"got ndarray array\(\[None, 1\]"),
    "function": (bowl, TypeError, "got function"),
    "set": ({1.0}, TypeError, r"got set \{1.0\}"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), TypeError, "got ndarray array"),
    "masked": (
        np.ma.array([1.0, 2.0], mask=[0, 1]),
        TypeError,
        r"without a mask, got a masked array at '\(root\)'",
    ),
    "key": (jax.random.key(0), TypeError, "got key<fry>"),
    "integers among others": (
        {"n": np.arange(2), "w": np.ones(2)},
        TypeError,
        "got int32 at 'n'",
    ),
}


@pytest.mark.parametrize(("start", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_start_is_refused_in_a_sentence(start, error, message):
    with pytest.raises(error, match=f"^minimize needs .*{message}"):
        minimize(bowl, start, bfgs())
