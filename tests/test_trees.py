"""Leaves are named, and bad trees refused by name."""

from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


TEXTS = st.text(alphabet="w0[]*?!-'/ ", max_size=6)


@given(names=st.lists(TEXTS, min_size=1, max_size=6))
def test_every_name_chooses_itself_alone(names):
    assert all(trees.matching_names(name, names) == {name} for name in names)


@given(pattern=TEXTS, names=st.lists(TEXTS, max_size=6))
def test_a_pattern_without_brackets_is_that_of_the_shell(pattern, names):
    if "[" not in pattern and pattern not in names:
        expected = {name for name in names if fnmatchcase(name, pattern)}
        assert trees.matching_names(pattern, names) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[ab]", {"a", "b"}),
        ("[!ab]", {"c"}),
        ("['w'][0]", {"['w'][0]"}),  # as a class it would be the name w0
        ("['w'][?]", {"['w'][0]", "['w'][1]"}),
        ("['w']*", {"['w'][0]", "['w'][1]"}),
        ("w[[]0]", {"w[0]"}),  # the shell's own way to write a bracket
        ("w[01]", {"w0"}),
        ("nothing", set()),
    ],
)
def test_brackets_are_letters_where_a_name_has_them_and_classes_elsewhere(pattern, expected):
    names = ["a", "b", "c", "w0", "w[0]", "['w'][0]", "['w'][1]"]
    assert trees.matching_names(pattern, names) == expected
