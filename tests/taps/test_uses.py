"""How layers use their weights, read off the program."""

import math

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.taps.program import trace_program

X = jnp.ones((5, 4))
W = jnp.ones((4, 4))
B = jnp.ones(4)
ROOT = jnp.sqrt(3.0)


def layers(fun, params, x=X):
    return trace_program("test", fun, (params, x)).layers


def attention(p, x):
    query, key = x @ p["q"] / math.sqrt(4), x @ p["k"]
    return jax.nn.softmax(query @ key.T) @ x


@pytest.mark.parametrize(
    ("fun", "params", "scales"),
    [
        (lambda w, x: jnp.tanh(x @ w), W, [1.0]),
        (lambda w, x: jnp.tanh(0.5 * (x @ w)), W, [0.5]),
        (lambda w, x: jnp.tanh((x @ w) / jnp.sqrt(4.0)), W, [0.5]),
        (lambda w, x: jnp.tanh((x @ w) / ROOT), W, [1 / math.sqrt(3)]),
        (lambda w, x: 3 * (2 * (x @ w).reshape(2, 10)), W, [6.0]),
        (lambda p, x: jnp.sin(30 * (x @ p["w"] + p["b"])), {"w": W, "b": B}, [30.0]),
        (lambda p, x: jnp.tanh(0.1 * (x @ p["w"]) + p["b"]), {"w": W, "b": B}, [0.1]),
        (lambda p, x: (x @ p["w"]) * p["b"], {"w": W, "b": B}, [1.0]),
        (lambda w, x: jax.nn.gelu(x @ w), W, [1.0]),
        (lambda w, x: 2 / (x @ w), W, [1.0]),
        (attention, {"k": W, "q": W}, [1.0, 1.0]),
    ],
    ids=[
        "none", "factor", "quotient", "array", "twice", "sine", "before the bias", "learned",
        "inside an activation", "reciprocal", "attention",
    ],
)  # fmt: skip
def test_the_constant_behind_a_layer_is_found(fun, params, scales):
    assert [layer.use.scale for layer in layers(fun, params)] == pytest.approx(scales, rel=1e-6)


@pytest.mark.parametrize(
    ("fun", "is_plain"),
    [
        (lambda w, x: x @ w, True),
        (lambda w, x: x @ w.T.astype(jnp.bfloat16).astype(jnp.float32), True),
        (lambda w, x: x[:, :2] @ w[:2], True),
        (lambda w, x: x @ jnp.concatenate([w, w], axis=1), True),
        (lambda w, x: x @ (w * jnp.sqrt(0.5)), False),
        (lambda w, x: x @ (w / jnp.linalg.norm(w, axis=0)), False),
    ],
    ids=["leaf", "cast", "part", "joined", "equalized", "normalised"],
)
def test_a_matrix_made_of_a_weight_is_told_from_the_weight(fun, is_plain):
    (layer,) = layers(fun, W)
    assert layer.use.is_plain == is_plain
    assert (layer.use.matrix_place is None) == is_plain


def test_the_state_of_a_cell_is_recurrent_and_its_input_is_not():
    def cell(p, xs):
        step = lambda h, x: (jnp.tanh(x @ p["w"] + h @ p["u"]), None)
        return jax.lax.scan(step, jnp.zeros((5, 4)), xs)[0] @ p["head"]

    found = layers(cell, {"head": W, "u": W, "w": W}, jnp.ones((3, 5, 4)))
    assert {one.name: one.use.is_recurrent for one in found} == {
        "w": False, "u": True, "head": False,
    }  # fmt: skip
    loops = {one.name: one.use.loop for one in found}
    assert loops["w"] == loops["u"] != ()
    assert loops["head"] == ()


def test_a_second_cell_in_the_same_scan_is_not_recurrent_in_its_input():
    def cells(p, xs):
        def step(state, x):
            h, g = state
            h = jnp.tanh(x @ p["w"] + h @ p["u"])
            g = jnp.tanh(h @ p["w2"] + g @ p["u2"])
            return (h, g), None

        return jax.lax.scan(step, (jnp.zeros((5, 4)), jnp.zeros((5, 4))), xs)[0]

    found = layers(cells, dict.fromkeys(["u", "u2", "w", "w2"], W), jnp.ones((3, 5, 4)))
    assert {one.name for one in found if one.use.is_recurrent} == {"u", "u2"}


def test_a_loop_written_out_is_recurrent_from_the_second_use_on():
    def unrolled(w, x):
        for _ in range(3):
            x = jnp.tanh(x @ w.T)
        return x

    assert [one.use.is_recurrent for one in layers(unrolled, W)] == [False, True, True]


@pytest.mark.parametrize("is_scanned", [False, True], ids=["sliced", "scanned"])
def test_a_stack_of_weights_is_no_recurrence(is_scanned):
    def scanned(w, x):
        return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, w)[0]

    def sliced(w, x):
        for k in range(3):
            x = jnp.tanh(x @ w[k])
        return x

    found = layers(scanned if is_scanned else sliced, jnp.ones((3, 4, 4)))
    assert not any(one.use.is_recurrent or one.use.loop for one in found)


def network(p, x):
    return jnp.sum(jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["c"])


@pytest.mark.parametrize(
    "derive",
    [
        lambda p, x: jnp.sum(jax.vmap(jax.grad(network, 1), (None, 0))(p, x) ** 2),
        lambda p, x: jnp.sum(jax.vmap(jax.hessian(network, 1), (None, 0))(p, x) ** 2),
        lambda p, x: jnp.sum(jax.jvp(lambda x: network(p, x), (x,), (x,))[1]),
        lambda p, x: jnp.sum(jax.jit(jax.grad(network, 1))(p, x)),
    ],
    ids=["gradient", "hessian", "tangent", "compiled gradient"],
)
def test_derivatives_within_the_loss_are_told_from_values(derive):
    found = layers(derive, {"a": W, "b": W, "c": W})
    values = [one.param for one in found if not one.use.is_derivative]
    assert sorted(set(values)) in (["a", "b"], ["a", "b", "c"])  # the last is linear
    assert len(values) == len(set(values))
    assert len(values) < len(found)
    assert not any(one.use.is_derivative for one in layers(network, {"a": W, "b": W, "c": W}))


@pytest.mark.parametrize(
    ("bend", "stops"),
    [
        (lambda z: jax.nn.relu(jax.lax.stop_gradient(z)), True),
        (lambda z: jnp.tanh(2 * jax.lax.stop_gradient(z)), True),
        (jax.nn.relu, False),
        (lambda z: z * jax.lax.stop_gradient(jax.nn.sigmoid(z)), False),
    ],
    ids=["relu", "tanh", "none", "gate"],
)
def test_a_gradient_stopped_on_all_ways_is_seen(bend, stops):
    (layer,) = layers(lambda w, x: bend(x @ w), W)
    assert layer.stops_gradient == stops
