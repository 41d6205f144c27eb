"""What `Program.layers` reads off a program: fans, neighbours, normalisations, scans."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxopt_tut.taps.interpreter import evaluate
from jaxopt_tut.taps.program import trace_program


def layers_of(fun, *args):
    return {layer.name: layer for layer in trace_program("test", fun, args).layers}


@pytest.mark.slow
def test_a_weight_in_front_of_a_normalisation_is_marked_and_its_activation_is_found():
    def conv_net(model, x):
        hidden = jax.nn.relu(model.norm(model.conv(x)))
        return model.head((hidden + jax.nn.relu(model.inner(hidden))).mean((1, 2)))

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.inner = nnx.Conv(4, 4, (3, 3), rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

    graphdef, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)
    layers = layers_of(
        lambda p, x: conv_net(nnx.merge(graphdef, p, rest, copy=True), x),
        params,
        jnp.zeros((2, 5, 5, 3)),
    )
    assert [layer.fan_in for layer in layers.values()] == [27, 36, 4]
    assert [layer.is_normalized for layer in layers.values()] == [True, False, False]
    assert layers["conv/kernel"].bend.site.kind == "norm"
    assert layers["conv/kernel"].activation is not None
    assert layers["inner/kernel"].is_elementwise
    assert not layers["head/kernel"].is_elementwise  # behind a mean over pixels
    assert [layer.is_last for layer in layers.values()] == [False, False, True]


def test_a_sum_of_branches_in_front_of_a_normalisation_keeps_their_scales():
    def block(params, x):
        x = x + x @ params["w"]
        x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
        return (x * params["scale"]) @ params["v"]

    params = {"w": jnp.ones((4, 4)), "scale": jnp.ones(4), "v": jnp.ones((4, 2))}
    layers = layers_of(block, params, jnp.ones((3, 4)))
    assert not layers["w"].is_normalized
    assert layers["v"].depth == 2


def test_scanned_weights_have_one_part_a_step_and_recurrent_ones_do_not():
    def deep(params, x):
        hidden, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["stack"])
        return hidden @ params["head"]

    def recurrent(params, x):
        hidden, _ = jax.lax.scan(lambda h, v: (jnp.tanh(h @ params + v), None), x[0], x)
        return hidden

    stack = {"stack": jnp.ones((5, 4, 4)), "head": jnp.ones((4, 2))}
    deep_layer = layers_of(deep, stack, jnp.ones((3, 4)))["stack"]
    assert (deep_layer.num_step_axes, deep_layer.num_weight_steps, deep_layer.num_uses) == (1, 1, 1)
    (shared,) = layers_of(recurrent, jnp.ones((4, 4)), jnp.ones((6, 3, 4))).values()
    assert (shared.num_step_axes, shared.num_weight_steps, shared.num_uses) == (1, 0, 2)


def test_a_gate_is_not_elementwise_and_gelu_is():
    def gated(params, x):
        left, right = x @ params["a"], x @ params["b"]
        return (jax.nn.gelu(left) @ params["c"]) + ((left * jax.nn.sigmoid(right)) @ params["d"])

    params = {name: jnp.ones((4, 4)) for name in "abcd"}
    layers = layers_of(gated, params, jnp.ones((3, 4)))
    assert {name: layer.is_elementwise for name, layer in layers.items()} == {
        "a": True, "b": True, "c": True, "d": False,
    }  # fmt: skip


def test_equinox_keeps_units_first():
    model = eqx.nn.MLP(6, 3, 16, 1, key=jax.random.key(0))
    layers = layers_of(lambda m, x: jax.vmap(m)(x), model, jnp.zeros((5, 6)))
    assert [(layer.fan_in, layer.fan_out) for layer in layers.values()] == [(6, 16), (16, 3)]
    assert all(layer.unit_axes == (0,) for layer in layers.values())


def test_evaluate_goes_on_with_what_meet_returns():
    def network(w, x):
        return jax.lax.scan(lambda h, v: (h * v @ w, None), x, jnp.ones(3))[0]

    w, x = 2 * jnp.eye(2), jnp.ones((1, 2))
    program = trace_program("test", network, (w, x))
    (layer,) = program.layers
    bumps = {0: jnp.array([1.0, 1.0, 5.0])}
    outputs, values, _ = evaluate(
        program.jaxpr,
        [w, x],
        {layer.pre_activation.place: 0},
        bumps,
        lambda value, bump: value * bump,
    )
    assert outputs[0].tolist() == [[40.0, 40.0]]  # 2 * 2 * (2 * 5)
    assert values[0][:, 0, 0].tolist() == [2.0, 4.0, 8.0]


def test_each_matrix_of_an_ensemble_has_its_own_fan_in():
    def ensemble(w, x):
        return jax.vmap(lambda w: jnp.tanh(x @ w["in"]) @ w["out"])(w)

    w = {"in": jnp.ones((8, 5, 7)), "out": jnp.ones((8, 7, 3))}
    layers = trace_program("test", ensemble, (w, jnp.ones((4, 5)))).layers
    assert [layer.fan_in for layer in layers] == [5, 7]


def test_names_for_rematerialisation_change_nothing():
    def network(w, x, name=lambda x, _: x):
        z = name(x @ w["in"], "dot") + w["bias"]
        return name(jnp.where(z > 0, z, 0.1 * z), "leaky") @ w["out"]

    w = {"in": jnp.ones((5, 7)), "bias": jnp.ones(7), "out": jnp.ones((7, 3))}
    named = partial(network, name=checkpoint_name)
    plain, found = (
        [
            (
                layer.name,
                layer.pre_activation.site.op,
                layer.activation and layer.activation.site.op,
            )
            for layer in trace_program("test", fun, (w, jnp.ones((4, 5)))).layers
        ]
        for fun in (network, named)
    )
    assert found == plain
    assert plain[0][1:] == ("add", "select_n")
