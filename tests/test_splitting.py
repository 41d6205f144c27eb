"""A model taken apart and put together is the model, and is known by what is not an array."""

import sys

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings

from jaxopt_tut.splitting import library_of, split_model
from jaxopt_tut.trees import named_leaves

LEAVES = {
    "trained": [jnp.ones(2), np.zeros(3), np.float32(2), 0.5, 1j, jnp.zeros((0,)), jnp.bfloat16(1)],
    "carried": [jnp.arange(2), np.int8(3), jax.random.key(0), jnp.ones(2, bool), jnp.zeros(0, int)],
    "fixed": [3, True, "relu", jnp.tanh, bytes(2), int, np.str_("a")],
}
ROLES = st.sampled_from(sorted(LEAVES))
LEAF = ROLES.flatmap(lambda role: st.sampled_from([(role, i) for i in range(len(LEAVES[role]))]))
TREES = st.recursive(
    LEAF | st.none(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("abc"), part),
    max_leaves=8,
)


def made(tree):
    is_leaf = lambda part: isinstance(part, tuple)
    return jax.tree.map(lambda leaf: LEAVES[leaf[0]][leaf[1]], tree, is_leaf=is_leaf)


@given(TREES)
@settings(deadline=None, max_examples=100)
def test_any_tree_is_split_by_what_its_leaves_are_and_comes_back(tree):
    model = made(tree)
    parts = split_model(model, "fit")
    leaves = jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, tuple))
    for role, part in (("trained", parts.trained), ("carried", parts.carried)):
        expected = [LEAVES[role][i] for name, i in leaves if name == role]
        assert all(a is b for a, b in zip(jax.tree.leaves(part), expected, strict=True))
    back = parts.assembly.build(parts.trained, parts.carried)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    assert all(a is b for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True))
    assert parts.assembly == split_model(made(tree), "fit").assembly
    assert hash(parts.assembly) == hash(split_model(made(tree), "fit").assembly)
    assert parts.assembly.is_plain == ({role for role, _ in leaves} <= {"trained"})
    assert (parts.carried is None) == ("carried" not in {role for role, _ in leaves})


DIFFERENT = {
    "a flag": ({"w": 0.5, "a": True}, {"w": 0.5, "a": 1}),
    "a number": ({"w": 0.5, "a": 2}, {"w": 0.5, "a": 3}),
    "a function": ({"w": 0.5, "a": jnp.sin}, {"w": 0.5, "a": jnp.cos}),
    "the containers": ([0.5], (0.5,)),
    "what is trained": ({"w": 0.5}, {"w": 3}),
    "a mode": (nnx.Dropout(0.5), nnx.Dropout(0.5, deterministic=True)),
    "the collections": (
        {"params": {"w": 0.5}, "batch_stats": {}}, {"params": {"w": 0.5}, "cache": {}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_models_are_told_apart_by_what_is_no_array(name):
    one, other = (split_model(model, "fit").assembly for model in DIFFERENT[name])
    assert one != other
    assert one == split_model(DIFFERENT[name][0], "fit").assembly


TREES_OF_MAPPINGS = {
    "linen": ({"params": {"w": 0.5}, "batch_stats": {"m": 0.5}}, ["w"]),
    "parameters alone": ({"params": {"w": 0.5}}, ["params/w"]),
    "a number beside": ({"params": {"w": 0.5}, "scale": 1.0}, ["params/w", "scale"]),
    "no parameters": ({"net": {"w": 0.5}, "batch_stats": {"m": 0.5}}, ["batch_stats/m", "net/w"]),
}


@pytest.mark.parametrize("name", TREES_OF_MAPPINGS)
def test_collections_of_linen_are_mappings_around_params(name):
    tree, trained = TREES_OF_MAPPINGS[name]
    assert [name for name, _ in named_leaves(split_model(tree, "fit").trained)] == trained


class Counter(nnx.Module):
    """Changes in its calls what is trained and what is not."""

    def __init__(self):
        self.weight = nnx.Param(jnp.ones(2))
        self.levels = nnx.Param(jnp.arange(2))
        self.count = nnx.Variable(jnp.int32(0))
        self.table = jnp.ones(3)

    def __call__(self):
        self.count[...] += 1
        self.weight[...] += 1.0
        self.new = nnx.Variable(jnp.ones(()))


def test_what_calls_change_is_read_where_it_was():
    parts = split_model(Counter(), "fit")
    assert [name for name, _ in named_leaves(parts.trained)] == ["weight"]
    model, now = parts.assembly.open(parts.trained, parts.carried)
    model()
    assert jax.tree.map(jnp.shape, now()) == jax.tree.map(jnp.shape, parts.carried)
    assert (now()["count"], parts.carried["count"]) == (1, 0)


def test_floats_of_a_module_steer_it_and_those_of_a_dictionary_are_numbers():
    trained = split_model({"rate": 0.5, "drop": eqx.nn.Dropout(0.5)}, "fit").trained
    assert [name for name, _ in named_leaves(trained)] == ["rate"]


def test_libraries_are_told_by_their_classes():
    assert library_of(nnx.Dropout(0.5)) == "nnx"
    assert library_of(eqx.nn.Dropout(0.5)) == "equinox"
    assert library_of({"params": jnp.ones(2)}) is None
    assert "flax" in sys.modules


def test_a_program_is_found_again():
    traced = []

    @jax.jit
    def double(parts):
        traced.append(1)
        model = parts.assembly.build(parts.trained, parts.carried)
        return model(jnp.ones((1, 2)))

    for seed in range(2):
        double(split_model(nnx.Linear(2, 2, rngs=nnx.Rngs(seed)), "fit"))
    assert traced == [1]
