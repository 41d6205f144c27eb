"""Leaves are named, arrays split from settings, and bad trees refused by name."""

import dataclasses
import functools
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
import numpy as np
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


ARRAYS = [
    jnp.ones(2),
    np.zeros(()),
    np.float64(1),
    jax.ShapeDtypeStruct((2,), jnp.float32),
    0.5,
    2j,
]
OTHERS = [jnp.tanh, "relu", True, 3, object()]
leaf = st.one_of(
    st.tuples(st.just(True), st.sampled_from(ARRAYS)),
    st.tuples(st.just(False), st.sampled_from(OTHERS)),
)
flagged_trees = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


def flattened(tree):
    return jax.tree.flatten(tree, is_leaf=lambda node: isinstance(node, tuple))


@given(flagged_trees)
def test_arrays_are_split_off_and_put_back(flagged):
    pairs, structure = flattened(flagged)
    tree = structure.unflatten([value for _, value in pairs])
    arrays, rebuild = trees.split_arrays(tree)
    assert trees.traced_leaves(tree) == [flag for flag, _ in pairs]
    assert all(
        a is value for a, (flag, value) in zip(arrays, [p for p in pairs if p[0]], strict=True)
    )
    same = jax.tree.leaves(rebuild(arrays))
    assert all(a is value for a, (_, value) in zip(same, pairs, strict=True))
    alone = rebuild.alone([f"array {k}" for k in range(len(arrays))])
    assert jax.tree.leaves(alone) == [f"array {k}" for k in range(len(arrays))]
    assert jax.tree.structure(rebuild(range(len(arrays)))) == structure


def test_what_is_an_array_may_be_told():
    is_whole = lambda leaf: isinstance(leaf, int)
    arrays, rebuild = trees.split_arrays({"a": 1, "b": None, "c": 2.0}, is_whole)
    assert (arrays, rebuild([7]), rebuild.alone([7])) == (
        [1],
        {"a": 7, "b": None, "c": 2.0},
        {"a": 7, "b": None, "c": None},
    )


@pytest.mark.parametrize("arrays", [[], [1, 2]])
def test_as_many_arrays_are_put_back_as_were_split_off(arrays):
    _, rebuild = trees.split_arrays({"w": 1.0, "act": jnp.tanh})
    for build in (rebuild, rebuild.alone):
        with pytest.raises(ValueError, match="zip"):
            build(arrays)


def test_a_float_of_a_module_is_a_setting():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Dropout:
        rate: float
        scale: jax.Array

    arrays, rebuild = trees.split_arrays({"drop": Dropout(0.5, jnp.ones(2)), "rate": 0.5})
    assert len(arrays) == 2
    assert rebuild(["scale", "rate"]) == {"drop": Dropout(0.5, "scale"), "rate": "rate"}


def test_what_is_left_of_a_tree_is_a_static_argument():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def total(rebuild, arrays):
        traces.append(rebuild)
        tree = rebuild(arrays)
        return tree["act"](tree["weight"]).sum()

    for scale in (1.0, 2.0):
        arrays, rebuild = trees.split_arrays({"act": jnp.square, "weight": scale * jnp.ones(3)})
        assert total(rebuild, arrays) == 3 * scale**2
    assert len(traces) == 1
    arrays, rebuild = trees.split_arrays({"act": jnp.abs, "weight": jnp.ones(3)})
    assert total(rebuild, arrays) == 3
    assert len(traces) == 2
