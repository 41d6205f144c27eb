import re

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.initializers import (
    constant,
    equal_variance,
    kaiming_normal,
    normal,
    reinitialize,
    variance_scaling,
)

KEY = jax.random.key(7, impl="rbg")  # quick to compile


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(jax.nn.relu(linen.Dense(4)(x)))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.second = nnx.Linear(4, 2, rngs=rngs)


def names_that_changed(before, after):
    assert jax.tree.structure(before) == jax.tree.structure(after)
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    changed = []
    for (path, old), new in pairs:
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        if old is not new:
            changed.append(jax.tree_util.keystr(path, simple=True, separator="/"))
    return changed


def test_linen_parameters_are_named_by_module():
    variables = LinenNet().init(KEY, jnp.ones((1, 3)))
    new = reinitialize(KEY, variables, {"params/Dense_1/*": constant(2.0)})
    assert names_that_changed(variables, new) == ["params/Dense_1/bias", "params/Dense_1/kernel"]
    assert (new["params"]["Dense_1"]["kernel"] == 2).all()
    LinenNet().apply(new, jnp.ones((1, 3)))


@pytest.mark.parametrize("pattern", ["first/kernel", "first/kernel/value", "f*/kernel"])
def test_nnx_states_are_named_with_or_without_value(pattern):
    graph, state = nnx.split(NnxNet(nnx.Rngs(0)))
    new = reinitialize(KEY, state, {pattern: constant(2.0)})
    assert names_that_changed(state, new) == ["first/kernel/value"]
    model = nnx.merge(graph, new)
    assert (model.first.kernel[...] == 2).all()


def test_nnx_states_and_pure_dicts_get_the_same_numbers():
    state = nnx.state(NnxNet(nnx.Rngs(0)), nnx.Param)
    rules = {"*kernel": normal(1.0)}
    from_state = nnx.to_pure_dict(reinitialize(KEY, state, rules))
    from_dict = reinitialize(KEY, nnx.to_pure_dict(state), rules)
    jax.tree.map(np.testing.assert_array_equal, from_state, from_dict)


def test_equinox_weights_take_their_axes():
    net = equinox.nn.MLP(300, 2, 40, 1, key=KEY)
    new = reinitialize(KEY, net, {"*weight": variance_scaling(2.0, in_axis=1, out_axis=0)})
    assert new.activation is net.activation
    assert new.layers[0].bias is net.layers[0].bias
    weight = new.layers[0].weight  # (out, in) = (40, 300)
    assert weight.shape == (40, 300)
    # Variance 2 / 300 to four standard errors of 12000 normal draws.
    assert abs(float((weight**2).mean()) * 300 / 2 - 1) < 4 * np.sqrt(2 / weight.size)


def test_a_leaf_gets_its_numbers_from_its_name_alone():
    params = {"a": jnp.zeros((3, 4)), "b": {"c": jnp.zeros((3, 4))}}
    both = reinitialize(KEY, params, {"*": normal(1.0)})
    alone = reinitialize(KEY, {"b": {"c": jnp.ones((3, 4))}}, {"b/c": normal(1.0)})
    np.testing.assert_array_equal(both["b"]["c"], alone["b"]["c"])
    assert (both["a"] != both["b"]["c"]).all()


def test_the_first_matching_rule_wins():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    new = reinitialize(KEY, params, {"a": constant(1.0), "*": constant(2.0)})
    assert (new["a"].tolist(), new["b"].tolist()) == ([1, 1], [2, 2])


KEYS = st.text(alphabet="w0[]*?!'/", min_size=1, max_size=5)
TREES = st.recursive(
    st.just(0.0),
    lambda inner: (
        st.dictionaries(KEYS, inner, min_size=1, max_size=3) | st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(tree=TREES)
def test_every_path_that_is_printed_is_a_pattern_for_its_leaf(tree):
    params = jax.tree.map(lambda leaf: np.full(2, leaf, np.float32), tree)
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/") or "(root)"
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    with pytest.raises(ValueError, match="got 'no such path'") as caught:
        reinitialize(KEY, params, {"no such path": constant(1.0)})
    assert str(caught.value).endswith(f"{', '.join(map(repr, paths)) or 'none'}.")
    for name in paths:
        new = reinitialize(KEY, params, {name: lambda _key, shape, dtype: np.ones(shape, dtype)})
        touched = [leaf[0] == 1 for leaf in jax.tree.leaves(new)]
        assert touched == [other == name for other in paths]


def test_paths_as_jax_prints_them_are_patterns():
    """A checkpoint flattened by `keystr`: its names are full of brackets."""
    leaves = jax.tree_util.tree_leaves_with_path({"w": [jnp.zeros(2), jnp.zeros(2)], "w0": 0.0})
    params = {jax.tree_util.keystr(path): jnp.zeros(2) for path, _ in leaves}
    new = reinitialize(KEY, params, {"['w'][0]": constant(1.0), "['w']*": constant(2.0)})
    found = {name: leaf[0].item() for name, leaf in new.items()}
    assert found == {"['w'][0]": 1.0, "['w'][1]": 2.0, "['w0']": 0.0}


def test_keeps_dtypes_empty_subtrees_and_foreign_leaves():
    params = {"w": jnp.zeros((2, 2), jnp.bfloat16), "none": None, "step": 3, "act": jnp.tanh}
    new = reinitialize(KEY, params, {"w": equal_variance()})
    assert new["w"].dtype == jnp.bfloat16
    assert (new["none"], new["step"], new["act"]) == (None, 3, jnp.tanh)
    assert reinitialize(KEY, params, {}) == params


def test_shapes_alone_are_enough():
    shapes = jax.eval_shape(lambda: {"w": jnp.zeros((3, 4)), "b": jnp.zeros(4)})
    new = reinitialize(KEY, shapes, {"w": normal(1.0), "b": constant(0.0)})
    np.testing.assert_array_equal(
        new["w"], reinitialize(KEY, {"w": jnp.ones((3, 4))}, {"w": normal(1.0)})["w"]
    )


def test_works_under_jit_and_vmap():
    params = {"w": jnp.zeros((3, 4)), "b": jnp.zeros(4)}
    keys = jax.random.split(jax.random.key(7), 2)  # of this kind a batch equals its parts
    draw = lambda key: reinitialize(key, params, {"w": normal(1.0)})
    together = jax.jit(jax.vmap(draw))(keys)
    for i, key in enumerate(keys):
        # One fused multiplication by the standard deviation: the last bit may differ.
        np.testing.assert_allclose(together["w"][i], draw(key)["w"], rtol=3e-7)


@pytest.mark.parametrize(
    ("params", "rules", "error", "sentence"),
    [
        (
            {"a": {"kernel": jnp.zeros((2, 2))}},
            {"*kernal": normal(1.0)},
            ValueError,
            "reinitialize needs patterns that match a leaf, got '*kernal'; "
            "the paths are 'a/kernel'.",
        ),
        (
            {},
            {"*": normal(1.0)},
            ValueError,
            "reinitialize needs patterns that match a leaf, got '*'; the paths are none.",
        ),
        (
            {"bias": jnp.zeros(2)},
            {"*": kaiming_normal()},
            ValueError,
            "reinitialize could not draw 'bias': "
            "kaiming_normal needs a shape of rank >= 2, got shape (2,).",
        ),
        (
            {"step": jnp.zeros(2, jnp.int32)},
            {"step": constant(0.0)},
            TypeError,
            "reinitialize needs floating or complex leaves, got int32 at 'step'.",
        ),
        (
            {"rate": 0.5},
            {"*": constant(0.0)},
            TypeError,
            "reinitialize needs floating or complex leaves, got float at 'rate'.",
        ),
        (
            {"key": jax.random.key(0)},
            {"*": constant(0.0)},
            TypeError,
            "reinitialize needs floating or complex leaves, got key<fry> at 'key'.",
        ),
        (
            {"w": jnp.zeros(2)},
            {"w": lambda _key, _shape, dtype: jnp.zeros((3,), dtype)},
            TypeError,
            "reinitialize needs initializers that keep shape and dtype, "
            "got float32 (3,) for float32 (2,) at 'w'.",
        ),
        (
            {"w": jnp.zeros(2)},
            {"w": 0.1},
            TypeError,
            "reinitialize needs rules from a path pattern to an initializer, got 'w': 0.1.",
        ),
        (
            {"w": jnp.zeros(2)},
            [("w", normal(1.0))],
            TypeError,
            "reinitialize needs a mapping of rules, got list.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_is_refused_with_a_sentence(params, rules, error, sentence):
    with pytest.raises(error, match=rf"^{re.escape(sentence)}$"):
        reinitialize(KEY, params, rules)
