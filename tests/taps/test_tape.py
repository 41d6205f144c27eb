"""The tape as an ordered pytree."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.taps import Tape


def test_a_tape_keeps_its_order_through_transformations():
    tape = Tape({"z": jnp.ones(2), "a": jnp.zeros(3)})
    for out in (jax.jit(lambda t: t)(tape), jax.tree.map(lambda v: v + 1, tape)):
        assert list(out) == ["z", "a"]
    assert list(jax.grad(lambda t: jnp.sum(t["z"]) + jnp.sum(t["a"]))(tape)) == ["z", "a"]


def test_a_tape_reads_like_a_mapping():
    tape = Tape({"z": 1.0, "a": 2.0})
    assert (len(tape), dict(tape.items()), "z" in tape) == (2, {"z": 1.0, "a": 2.0}, True)
    assert list(tape.keys()) == ["z", "a"]
    assert list(tape.values()) == [1.0, 2.0]


def test_leaves_of_a_tape_go_by_its_names():
    paths = jax.tree_util.tree_leaves_with_path(Tape({"0/kernel": 1.0}))
    assert jax.tree_util.keystr(paths[0][0]) == "['0/kernel']"


def test_a_tape_shows_shapes_not_numbers():
    assert repr(Tape({"a": jnp.zeros((2, 3)), "b": 1.0})) == "Tape({'a': float32[2,3], 'b': 1.0})"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="Tape has no 'b'; it has 'a'"):
        Tape({"a": 1.0})["b"]
    with pytest.raises(KeyError, match="it has nothing"):
        Tape({})["b"]
