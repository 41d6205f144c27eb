"""What of a call is traced, and how a tree is taken apart and put together."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_tut.taps.tracing import leaf_name, take_apart, take_parameters


@jax.tree_util.register_dataclass
@dataclass
class Module:
    weight: object
    rate: object


ARRAYS = st.sampled_from([jnp.ones(2), np.zeros(3), np.float32(1), 0.5, 2j])
FIXED = st.sampled_from([jnp.tanh, True, 3, "relu"])
TREES = st.recursive(
    ARRAYS | FIXED | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.builds(Module, inner, inner)
    ),
    max_leaves=8,
)


@given(TREES)
def test_a_tree_taken_apart_is_put_together_again(tree):
    parts = take_apart(tree)
    again = parts.rebuild(parts.arrays)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(tree), strict=True))
    assert len(parts.names) == len(parts.arrays)


@given(TREES)
def test_arrays_alone_are_what_is_traced(tree):
    parts = take_apart(tree)
    alone = jax.tree.leaves(parts.rebuild.alone(parts.arrays))
    assert all(a is b for a, b in zip(alone, parts.arrays, strict=True))
    jax.eval_shape(lambda x: x, alone)  # each is a value of JAX
    whole = take_apart(parts.rebuild([object] * len(alone)))
    assert whole.arrays == []


def test_a_float_steers_a_module_and_is_data_elsewhere():
    parts = take_apart({"net": Module(jnp.ones(2), 0.1), "scale": 0.1, "deep": [0.2, False]})
    assert parts.names == ["deep/0", "net/weight", "scale"]
    assert parts.rebuild.fixed == (None, False, None, 0.1, None)


def test_parameters_that_are_integers_are_refused_by_name():
    assert take_parameters("fit", {"w": jnp.ones(2), "n": 3, "f": jnp.tanh}).names == ["w"]
    with pytest.raises(TypeError, match=r"fit .*n"):
        take_parameters("fit", {"w": jnp.ones(2), "n": jnp.arange(3)})


def test_a_leaf_is_named_without_the_box_of_nnx():
    path = (jax.tree_util.DictKey("kernel"), jax.tree_util.GetAttrKey("value"))
    assert leaf_name(path) == "kernel"
    assert leaf_name(path[:1]) == "kernel"
    assert leaf_name(()) == ""
