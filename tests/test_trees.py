"""Leaves are named, and bad trees refused by name."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut import trees


def test_names_follow_the_order_of_the_leaves():
    tree = {"b": [jnp.ones(1), None], "a": (jnp.zeros(2),)}
    named = trees.named_leaves(tree)
    assert [name for name, _ in named] == ["a/0", "b/0"]
    assert all(x is y for (_, x), y in zip(named, jax.tree.leaves(tree), strict=True))
    assert trees.named_leaves(1.0) == [("(root)", 1.0)]


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [(3, "int32"), (True, "bool"), (jnp.arange(2), "int32"), (jax.random.key(0), "key<fry>")],
    ids=["int", "bool", "int_array", "key"],
)
def test_leaves_without_a_derivative_are_refused_by_path(leaf, dtype):
    message = rf"f needs floating or complex parameters, got {dtype} at 'layer/1'\."
    with pytest.raises(TypeError, match=message):
        trees.require_inexact({"layer": [1.0, leaf]}, "f")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_floating_complex_empty_and_absent_leaves_pass(dtype):
    trees.require_inexact({"w": jnp.zeros((0, 2), dtype), "none": None}, "f")


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ({"a": 1.0}, {"b": 1.0}, "got 'a' on one side and 'b' on the other"),
        ([1.0], [1.0, 2.0], r"got '\(no leaf\)' on one side and '1' on the other"),
        ([1.0, 2.0], [1.0], r"got '1' on one side and '\(no leaf\)' on the other"),
        (
            {"w": jnp.ones((2, 3))},
            {"w": jnp.ones((3, 2))},
            r"got \(2, 3\) at 'w' and \(3, 2\) at 'w'",
        ),
    ],
    ids=["name", "superfluous", "missing", "shape"],
)
def test_trees_that_do_not_match_are_refused_by_path(left, right, message):
    with pytest.raises(ValueError, match=message):
        trees.require_same_structure(left, right, "f")
    trees.require_same_structure(left, left, "f")
