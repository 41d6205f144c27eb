"""Recorded values and cotangents, against the function itself and against JAX's own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut import jaxprs, taps
from jaxopt_tut.models import mlp

SIZES = (6, 8, 5, 3)
PARAMS = mlp.init(jax.random.key(0), SIZES)
X = jax.random.normal(jax.random.key(1), (7, 6))
LABELS = jnp.arange(7) % 3


def mlp_loss(params, x, labels):
    logits = mlp.apply(params, x)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def rnn_loss(params, xs):
    def step(h, x):
        h = jnp.tanh(x @ params["w"] + h @ params["u"] + params["b"])
        return h, h

    start = jnp.zeros((xs.shape[1], 4), xs.dtype)
    _, hs = jax.lax.scan(step, start, xs)
    return jnp.mean((hs @ params["o"]) ** 2)


def rnn_args():
    keys = jax.random.split(jax.random.key(3), 5)
    shapes = {"w": (3, 4), "u": (4, 4), "b": (4,), "o": (4, 2)}
    params = {
        name: 0.5 * jax.random.normal(key, shape)
        for (name, shape), key in zip(shapes.items(), keys[:4], strict=True)
    }
    return params, jax.random.normal(keys[4], (5, 2, 3))


def layers(params, x):
    """A stack of equal layers, scanned and rematerialised."""

    @jax.checkpoint
    def layer(x, w):
        return jnp.tanh(x @ w["kernel"].astype(x.dtype) + w["bias"]), None

    return jnp.sum(jax.lax.scan(layer, x, params)[0] ** 2)


def stacked_args():
    k1, k2, k3 = jax.random.split(jax.random.key(4), 3)
    params = {"kernel": jax.random.normal(k1, (3, 4, 4)), "bias": jax.random.normal(k2, (3, 4))}
    return params, jax.random.normal(k3, (2, 4))


def jitted(params, x):
    hidden = jax.jit(lambda p, x: jnp.cos(jnp.sin(x @ p["w"]) * 2 + 1))(params, x)
    return jnp.sum(jax.jit(jax.jit(lambda h, v: h @ v))(hidden, params["v"]) ** 2)


def jitted_args():
    k1, k2, k3 = jax.random.split(jax.random.key(5), 3)
    params = {"w": jax.random.normal(k1, (6, 4)), "v": jax.random.normal(k2, (4, 2))}
    return params, jax.random.normal(k3, (3, 6))


def branching(params, x):
    hidden = x @ params["w"]
    hidden = jax.lax.cond(
        jnp.sum(x) > 0,
        lambda h: jnp.tanh(h @ params["v"]),
        lambda h: jnp.sin(h @ params["u"]),
        hidden,
    )
    return jnp.sum(hidden**2)


def branching_args():
    keys = jax.random.split(jax.random.key(6), 3)
    params = {name: jax.random.normal(key, (3, 3)) for name, key in zip("wvu", keys, strict=True)}
    return params, jnp.ones((2, 3))


PROGRAMS = {
    "mlp": (mlp_loss, (PARAMS, X, LABELS)),
    "rnn": (rnn_loss, rnn_args()),
    "scan of remat": (layers, stacked_args()),
    "jit": (jitted, jitted_args()),
    "cond": (branching, branching_args()),
}


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def assert_close(tree, other, rounding=100):
    """A hundred roundings of a sum of order-one terms: XLA fuses differently around an output."""

    def close(a, b):
        size = rounding * float(jnp.finfo(jnp.asarray(b).dtype).eps)
        np.testing.assert_allclose(a, b, rtol=size, atol=size * float(jnp.max(jnp.abs(b)) + 1))

    jax.tree.map(close, tree, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_eagerly_the_result_is_the_same_bits(name):
    fun, args = PROGRAMS[name]
    assert_equal(taps.record(fun)(*args)[0], fun(*args))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "scan of remat"])
def test_eagerly_loss_and_gradients_are_the_same_bits(name):
    loss_fn, args = PROGRAMS[name]
    loss, gradients, _, _ = taps.record_gradients(loss_fn)(*args)
    assert_equal((loss, gradients), jax.value_and_grad(loss_fn)(*args))


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_loss_and_gradients_are_those_of_the_function(name):
    loss_fn, args = PROGRAMS[name]
    loss, gradients, values, cotangents = jax.jit(taps.record_gradients(loss_fn, "*"))(*args)
    assert list(values) == list(cotangents)
    assert_close((loss, gradients), jax.value_and_grad(loss_fn)(*args))


def test_eager_equals_compiled():
    loss_fn, args = PROGRAMS["cond"]
    eager = taps.record_gradients(loss_fn)(*args)
    compiled = jax.jit(taps.record_gradients(loss_fn))(*args)
    assert list(eager[2]) == list(compiled[2])
    assert_close(eager, compiled)


def test_effects_happen_once(capfd):
    def fun(w):
        jax.debug.print("seen {}", w)
        return jnp.sin(w)

    taps.record(fun, "*")(jnp.float32(1.0))
    jax.effects_barrier()
    assert capfd.readouterr().out.count("seen") == 1


def test_values_are_the_pre_activations_that_the_model_returns():
    _, expected = mlp.apply(PARAMS, X, return_pre_activations=True)
    _, tape = taps.record(mlp.apply, "[0-9]/kernel")(PARAMS, X)
    assert list(tape) == ["0/kernel", "1/kernel", "2/kernel"]
    assert_equal(list(tape.values()), list(expected))


def test_cotangents_are_the_derivatives_by_the_pre_activations():
    def from_layer(k, z):
        for layer in PARAMS[k + 1 :]:
            z = jax.nn.relu(z) @ layer["kernel"] + layer["bias"]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(z, LABELS))

    _, pre_activations = mlp.apply(PARAMS, X, return_pre_activations=True)
    _, _, _, cotangents = jax.jit(taps.record_gradients(mlp_loss))(PARAMS, X, LABELS)
    for k, z in enumerate(pre_activations):
        expected = jax.grad(lambda z, k=k: from_layer(k, z))(z)
        assert_close(cotangents[f"{k}/kernel"], expected)


def test_weight_gradients_follow_from_values_and_cotangents():
    """dL/dW_l = h_{l-1}^T dL/dz_l: ties values, cotangents and gradients together."""
    recorded = jax.jit(taps.record_gradients(mlp_loss))
    _, gradients, values, cotangents = recorded(PARAMS, X, LABELS)
    for k in (1, 2):
        product = values[f"{k - 1}/kernel/activation"].T @ cotangents[f"{k}/kernel"]
        assert_close(product, gradients[k]["kernel"])


def test_scanned_sites_are_stacked_over_the_steps():
    params, xs = rnn_args()
    _, gradients, values, cotangents = jax.jit(taps.record_gradients(rnn_loss))(params, xs)
    assert values["b"].shape == cotangents["b"].shape == (5, 2, 4)
    hidden, states = jnp.zeros((2, 4)), []
    for x in xs:
        states.append(x @ params["w"] + hidden @ params["u"] + params["b"])
        hidden = jnp.tanh(states[-1])
    assert_close(values["b"], jnp.stack(states))
    assert_close(jnp.sum(cotangents["b"], (0, 1)), gradients["b"])
    assert_close(jnp.einsum("tbi,tbj->ij", xs, cotangents["w"]), gradients["w"])


def test_a_scan_in_reverse_keeps_the_order_of_its_inputs():
    def fun(w, xs):
        def step(c, x):
            return w * c + x, None

        return jax.lax.scan(step, jnp.zeros(()), xs, reverse=True)[0]

    xs = jnp.arange(1.0, 4.0)
    _, gradient, values, cotangents = taps.record_gradients(fun, "op:add")(jnp.float32(2.0), xs)
    (value,), (cotangent,) = values.values(), cotangents.values()
    # c_2 = 3, c_1 = 2 c_2 + 2, c_0 = 2 c_1 + 1; dc_0/dc_t = 2^t
    np.testing.assert_array_equal(value, [17.0, 8.0, 3.0])
    np.testing.assert_array_equal(cotangent, [1.0, 2.0, 4.0])
    np.testing.assert_array_equal(gradient, 1 * 8.0 + 2 * 3.0)


def test_a_stack_of_layers_matches_the_loop():
    params, x = stacked_args()
    _, gradients, values, cotangents = jax.jit(taps.record_gradients(layers))(params, x)
    h, expected = x, []
    for k in range(3):
        expected.append(h @ params["kernel"][k] + params["bias"][k])
        h = jnp.tanh(expected[-1])
    assert_close(values["kernel"], jnp.stack(expected))
    assert_close(jnp.sum(cotangents["kernel"], 1), gradients["bias"])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_branch_not_taken_is_nan(sign):
    params, x = branching_args()
    loss, _, values, cotangents = jax.jit(taps.record_gradients(branching))(params, sign * x)
    assert_close(loss, branching(params, sign * x))
    taken, other = ("v", "u") if sign > 0 else ("u", "v")
    z = sign * x @ params["w"] @ params[taken]
    assert_close(values[taken], z)
    outer = (
        (lambda z: jnp.sum(jnp.tanh(z) ** 2)) if sign > 0 else lambda z: jnp.sum(jnp.sin(z) ** 2)
    )
    assert_close(cotangents[taken], jax.grad(outer)(z))
    assert np.isnan(values[other]).all()
    assert np.isnan(cotangents[other]).all()


def test_a_branch_inside_a_scan_is_nan_step_by_step():
    def loss_fn(w, xs):
        def step(total, x):
            return total + jax.lax.cond(x > 0, lambda x: jnp.exp(w * x), lambda x: x, x), None

        return jax.lax.scan(step, jnp.zeros(()), xs)[0]

    xs = jnp.array([1.0, -2.0, 3.0])
    _, _, values, cotangents = taps.record_gradients(loss_fn, "op:exp")(jnp.float32(0.5), xs)
    (value,), (cotangent,) = values.values(), cotangents.values()
    assert_close(value[::2], jnp.exp(0.5 * xs[::2]))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])
    np.testing.assert_array_equal(cotangent, [1.0, np.nan, 1.0])


def test_a_while_loop_gives_the_values_of_its_last_step():
    def fun(w, x):
        return jax.lax.while_loop(lambda v: v < 9, lambda v: jnp.abs(v * w) + 1, x)

    out, tape = taps.record(fun, "op:mul")(jnp.float32(2.0), jnp.float32(1.0))
    assert out == 15  # 1, 3, 7, 15
    assert list(tape.values()) == [14.0]
    _, tape = jax.jit(taps.record(fun, "op:mul"))(jnp.float32(2.0), jnp.float32(10.0))
    assert all(np.isnan(value) for value in tape.values())


def test_inner_values_of_a_custom_rule_are_recorded_and_the_rule_stays():
    @jax.custom_jvp
    def odd(x):
        return jnp.sin(x) * x

    odd.defjvp(lambda p, t: (odd(p[0]), 7.0 * t[0]))

    def loss_fn(w, x):
        return jnp.sum(odd(w * x))

    w, x = jnp.float32(3.0), jnp.array([1.0, 2.0])
    out, tape = taps.record(loss_fn, "op:sin")(w, x)
    assert_equal(list(tape.values()), [jnp.sin(w * x)])
    assert out == loss_fn(w, x)
    assert jax.grad(lambda w: taps.record(loss_fn, "op:sin")(w, x)[0])(w) == 21.0
    _, gradient, values, _ = taps.record_gradients(loss_fn, "*")(w, x)
    assert gradient == 21.0
    assert not any("sin" in name for name in values)


def test_an_inner_cotangent_of_a_custom_rule_is_refused_by_name():
    @jax.custom_vjp
    def clipped(x):
        return jnp.sin(x)

    clipped.defvjp(lambda x: (jnp.sin(x), x), lambda _, g: (jnp.clip(g, -1, 1),))
    recorded = taps.record_gradients(lambda w: clipped(w * 2), "op:sin")
    with pytest.raises(ValueError, match=r"no cotangent for 'sin'.*inside clipped"):
        recorded(jnp.float32(1.0))


def test_an_inner_cotangent_of_a_while_loop_is_refused():
    def loss_fn(w, x):
        steps = jax.lax.while_loop(lambda v: v < 9, lambda v: jnp.exp(v), jax.lax.stop_gradient(x))
        return w * steps

    loss, gradient, values, _ = taps.record_gradients(loss_fn, "*")(jnp.float32(2.0), 1.0)
    assert_close(loss, 2 * jnp.exp(jnp.exp(1.0)))
    with pytest.raises(ValueError, match="inside while_loop"):
        taps.record_gradients(loss_fn, "op:exp")(jnp.float32(2.0), 1.0)
    assert gradient == loss / 2
    assert not any("exp" in name for name in values)


def test_two_calls_of_one_jitted_function_are_two_sites():
    layer = jax.jit(lambda w, x: jnp.tanh(jnp.sin(w * x) + 1) * x)

    def loss_fn(w, x):
        return layer(w, layer(w, x))

    w, x = jnp.float32(1.5), jnp.float32(0.7)
    _, _, values, cotangents = taps.record_gradients(loss_fn, "op:sin")(w, x)
    first, second = values.values()
    assert_close(first, jnp.sin(w * x))
    assert_close(second, jnp.sin(w * layer(w, x)))
    expected = jax.grad(lambda s: layer(w, jnp.tanh(s + 1) * x))(first)
    assert_close(next(iter(cotangents.values())), expected)


def test_a_recording_is_differentiable_jittable_and_mappable():
    def energy(params, x):
        _, tape = taps.record(mlp.apply)(params, x)
        return sum(jnp.sum(value**2) for value in tape.values())

    def by_hand(params, x):
        _, zs = mlp.apply(params, x, return_pre_activations=True)
        return sum(jnp.sum(z**2) for z in zs) + sum(jnp.sum(jax.nn.relu(z) ** 2) for z in zs[:-1])

    assert_close(jax.jit(jax.grad(energy))(PARAMS, X), jax.grad(by_hand)(PARAMS, X))
    mapped = jax.vmap(taps.record(mlp.apply), (None, 0))(PARAMS, X)[1]
    whole = taps.record(mlp.apply)(PARAMS, X)[1]
    assert list(mapped) == list(whole)
    assert_close(dict(mapped), dict(whole))


def test_cotangents_can_be_differentiated_again():
    def size_of_signal(params):
        _, _, _, cotangents = taps.record_gradients(rnn_loss, "o")(params, xs)
        return jnp.sum(cotangents["o"])

    params, xs = rnn_args()
    # The loss is mean(z^2), so its cotangent is 2 z / size, and z = h o.
    derivative = jax.jit(jax.grad(size_of_signal))(params)["o"]
    _, tape = taps.record(rnn_loss, "b/activation")(params, xs)
    states = tape["b/activation"]
    expected = 2 * jnp.sum(states, (0, 1)) / (states.size // 4 * 2)
    assert_close(derivative, jnp.stack([expected, expected], 1))


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_gradients_map_over_examples(inside):
    recorded = jax.jit(jax.vmap(taps.record_gradients(mlp_loss), (None, 0, 0)))
    per_example = recorded(PARAMS, X, LABELS)
    if inside:

        def mean_loss(params, x, labels):
            return jnp.mean(jax.vmap(mlp_loss, (None, 0, 0))(params, x, labels))

        loss, gradients, values, cotangents = jax.jit(taps.record_gradients(mean_loss))(
            PARAMS, X, LABELS
        )
        assert_close(dict(values), dict(per_example[2]))
        scaled = jax.tree.map(lambda v: v / 7, dict(per_example[3]))
        assert_close(dict(cotangents), scaled)
    else:
        loss, gradients = jax.value_and_grad(mlp_loss)(PARAMS, X, LABELS)
    means = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), per_example[:2])
    assert_close((loss, gradients), means)


def test_an_auxiliary_output_comes_back_beside_the_loss():
    def loss_fn(params, x):
        return jnp.sum(x @ params), {"count": jnp.int32(3), "inputs": x}

    (loss, aux), gradient, values, _ = taps.record_gradients(loss_fn)(jnp.ones((6, 2)), X)
    assert aux["count"] == 3
    assert_equal(aux["inputs"], X)
    assert_close(loss, jnp.sum(X) * 2)
    assert_close(gradient[:, 0], jnp.sum(X, 0))
    assert len(values) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex64"])
def test_every_inexact_dtype(dtype, x64):  # noqa: ARG001
    def loss_fn(w, x):
        return jnp.real(jnp.sum((x @ w) * jnp.conj(x @ w))).astype(jnp.float32)

    w, x = jnp.asarray([[1.0], [2.0]], dtype), jnp.asarray([[3.0, 1.0]], dtype)
    loss, gradient, values, cotangents = taps.record_gradients(loss_fn, "op:dot*")(w, x)
    assert loss == 25
    assert gradient.dtype == dtype
    for tape, total in ((values, 5.0), (cotangents, 5.0)):
        assert len(tape) == 2
        assert {value.dtype for value in tape.values()} == {jnp.dtype(dtype)}
        np.testing.assert_array_equal([value.ravel() for value in tape.values()], [[total]] * 2)


def test_the_context_of_an_equation_is_kept():
    def fun(w, x):
        with jax.default_matmul_precision("highest"):
            return jnp.sin(x @ w)

    again = jax.make_jaxpr(taps.record(fun, "op:sin"))(jnp.ones((6, 2)), X)
    (eqn,) = [e for e in jaxprs.open_jaxpr(again).eqns if e.primitive.name == "dot_general"]
    assert eqn.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2


def test_negative_zero_passes_through_a_tap():
    _, _, values, _ = taps.record_gradients(lambda w: jnp.sum(-w), "op:neg")(jnp.zeros(2))
    assert np.signbit(next(iter(values.values()))).all()
    loss, *_ = taps.record_gradients(lambda w: -w, "op:neg")(jnp.float32(0.0))
    assert np.signbit(loss)


def test_arrays_that_need_no_gradient_may_be_integers_and_keys():
    def loss_fn(w, count, key):
        return jnp.sum(w * jax.random.normal(key, (3,))) * count.astype(jnp.float32)

    loss, gradient, _, _ = taps.record_gradients(loss_fn, "*")(
        jnp.ones(3), jnp.int32(2), jax.random.key(0)
    )
    assert_close(gradient, 2 * jax.random.normal(jax.random.key(0), (3,)))
    assert_close(loss, jnp.sum(gradient))


@pytest.mark.slow
@settings(deadline=None, max_examples=5)
@given(
    ops=st.lists(
        st.sampled_from(["sin", "tanh", "exp", "square", "add", "mul"]), min_size=1, max_size=4
    ),
    shape=st.sampled_from([(), (0,), (1,), (3,), (2, 1)]),
)
def test_a_chain_has_the_cotangents_of_its_tails(ops, shape):
    """At every link, the recorded cotangent is the gradient of the rest of the chain."""
    steps = {
        "sin": jnp.sin,
        "tanh": jnp.tanh,
        "exp": lambda v: jnp.exp(-v),
        "square": jnp.square,
        "add": lambda v: v + 1,
        "mul": lambda v: v * v,
    }

    def tail(v, first):
        for op in ops[first:]:
            v = steps[op](v)
        return jnp.sum(v)

    x = jnp.full(shape, 0.3)
    _, _, values, cotangents = taps.record_gradients(lambda v: tail(v, 0), "*")(x)
    found = [(v, c) for v, c in zip(values.values(), cotangents.values(), strict=True)]
    v = x
    for k, op in enumerate(ops):
        v = steps[op](v)
        expected = jax.grad(tail)(v, k + 1)
        assert any(
            a.shape == v.shape
            and np.allclose(a, v, rtol=1e-6)
            and np.allclose(c, expected, rtol=1e-5, atol=1e-6)
            for a, c in found
        )


@pytest.mark.parametrize(
    ("loss_fn", "got"),
    [
        (lambda w: w, r"float32\[3\]"),
        (lambda w: jnp.sum(w) > 0, r"bool\[\]"),
        (lambda w: {"loss": jnp.sum(w)}, "dict"),
        (lambda w: (jnp.sum(w), 1, 2), "tuple"),
    ],
    ids=["vector", "boolean", "dict", "triple"],
)
def test_a_loss_that_is_no_scalar_is_refused(loss_fn, got):
    with pytest.raises(ValueError, match=f"needs a loss that is a real scalar.*got {got}"):
        taps.record_gradients(loss_fn)(jnp.ones(3))


def test_integer_parameters_are_refused_by_path():
    with pytest.raises(TypeError, match=r"record_gradients needs floating .* got int32 at 'n'"):
        taps.record_gradients(lambda p: jnp.sum(p["w"]))({"n": jnp.int32(1), "w": jnp.ones(2)})


def test_a_function_that_does_not_trace_is_named():
    def looks_at_values(x):
        return x if x > 0 else -x

    with pytest.raises(TypeError, match="record cannot trace looks_at_values: Attempted boolean"):
        taps.record(looks_at_values)(jnp.float32(1.0))


def test_an_error_of_the_function_itself_says_who_was_tracing():
    def broken(x):
        return x @ jnp.ones((4, 4))

    with pytest.raises(TypeError) as caught:
        taps.record(broken)(jnp.ones((2, 3)))
    assert "record was tracing the function when this happened." in caught.value.__notes__


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="record needs a function, got dict"):
        taps.record({})(jnp.ones(3))
