"""The graph shows what a function computes, and the tutorial's algorithms run on it."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff


def worked_example(x, y):
    return jnp.sin(x * y) + jnp.exp(x * y)


@pytest.mark.usefixtures("x64")
def test_the_worked_example_of_the_tutorial():
    graph = autodiff.trace(worked_example, strict=True)(1.0, 2.0)
    assert [node.op for node in graph.nodes] == [
        "input",
        "input",
        "mul",
        "sin",
        "mul",
        "exp",
        "add",
    ]
    assert [node.parents for node in graph.nodes[2:]] == [(0, 1), (2,), (0, 1), (4,), (3, 5)]
    assert [graph.nodes[i].name for i in graph.inputs] == ["x", "y"]
    values = graph.evaluate(1.0, 2.0)
    np.testing.assert_allclose(values[graph.outputs[0]], 8.298353525756, rtol=1e-12)
    adjoints = graph.backpropagate(values, 1.0)
    slope = np.cos(2.0), np.exp(2.0)
    expected = [2 * sum(slope), sum(slope), slope[0], 1.0, slope[1], 1.0, 1.0]
    np.testing.assert_allclose(adjoints, expected, rtol=1e-14)
    np.testing.assert_allclose(adjoints[:2], [13.945818524767, 6.972909262384], rtol=1e-12)
    by_x, by_y = graph.jvp(values, (1.0, 0.0)), graph.jvp(values, (0.0, 1.0))
    np.testing.assert_allclose([by_x[-1], by_y[-1]], adjoints[:2], rtol=1e-14)


def test_adjoints_are_those_of_every_node():
    """The adjoint of a node is the derivative by a number added to it."""

    def with_shift(shift):
        inner = jnp.tanh(jnp.float32(0.3)) + shift
        return inner * jnp.exp(inner)

    graph = autodiff.trace(lambda x: jnp.tanh(x) * jnp.exp(jnp.tanh(x)))(0.3)
    values = graph.evaluate(0.3)
    adjoints = graph.backpropagate(values, 1.0)
    tanh = [node.index for node in graph.nodes if node.op == "tanh"]
    total = sum(adjoints[i] for i in tanh)
    np.testing.assert_allclose(total, jax.grad(with_shift)(0.0), rtol=1e-6)


def test_names_come_from_arguments_and_scopes():
    def model(params, x):
        with jax.named_scope("dense"):
            return jax.jit(lambda v: v @ params["kernel"] + params["bias"])(x)

    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    graph = autodiff.trace(model)(params, jnp.ones((4, 2)))
    assert [graph.nodes[i].name for i in graph.inputs] == ["params/bias", "params/kernel", "x"]
    dot = next(node for node in graph.nodes if node.op == "dot_general")
    assert (dot.name, dot.shape, dot.dtype) == ("dense", (4, 3), jnp.float32)


def test_calls_are_entered_or_kept():
    def fun(x):
        return jax.checkpoint(jnp.sin)(jax.jit(lambda v: jnp.cos(2 * v))(x))

    ops = lambda **options: [n.op for n in autodiff.trace(fun, **options)(1.0).nodes]
    assert ops() == ["input", "mul", "cos", "sin"]
    kept = ops(enter=())
    assert kept[1] in ("jit", "pjit")
    assert len(kept) == 3
    graph = autodiff.trace(fun, enter=())(1.0)
    values = graph.evaluate(1.0)
    np.testing.assert_allclose(graph.backpropagate(values, 1.0)[0], jax.grad(fun)(1.0), rtol=1e-6)
    assert [node.op for node in graph.nodes[1].body.nodes] == ["input", "mul", "cos"]


def test_a_custom_rule_is_one_node_with_its_own_derivative():
    graph = autodiff.trace(jax.nn.relu)(0.0)
    assert [node.op for node in graph.nodes] == ["input", "custom_jvp_call"]
    assert graph.nodes[1].name == "relu"
    values = graph.evaluate(0.0)
    assert graph.backpropagate(values, 1.0)[0] == 0  # the slope of max(x, 0) there would be 1/2
    assert [node.op for node in graph.nodes[1].body.nodes] == ["input", "max"]


def test_a_scan_shows_its_body_once_and_stacked_values():
    def fun(w, xs):
        return jax.lax.scan(lambda h, x: (jnp.tanh(w * h + x),) * 2, w, xs)[1]

    xs = jnp.arange(3.0)
    start = jnp.float32(0.5)
    graph = autodiff.trace(fun, strict=True)(start, xs)
    scan = [node for node in graph.nodes if node.op == "scan"]
    assert [node.shape for node in scan] == [(), (3,)]
    assert [n.op for n in scan[0].body.nodes if n.op != "input"] == ["mul", "add", "tanh"]
    values = graph.evaluate(start, xs)
    adjoints = graph.backpropagate(values, jnp.ones(3))
    expected = jax.grad(lambda w, xs: jnp.sum(fun(w, xs)), (0, 1))(0.5, xs)
    np.testing.assert_allclose(adjoints[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(adjoints[1], expected[1], rtol=1e-6)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_the_values_of_a_body_are_stacked_over_the_steps(reverse):
    def fun(w, xs):
        step = lambda h, x: (jax.nn.relu(w * h + x), None)
        return jax.lax.scan(step, jnp.float32(0.5), xs, reverse=reverse)[0]

    args = jnp.float32(-2.0), jnp.array([0.3, -1.0, 3.0])
    graph = autodiff.trace(fun)(*args)
    node = next(node for node in graph.nodes if node.op == "scan")
    stacked = graph.body_values(graph.evaluate(*args), node)
    h, expected = 0.5, {"mul": [0] * 3, "add": [0] * 3, "custom_jvp_call": [0] * 3}
    for t in [2, 1, 0] if reverse else [0, 1, 2]:
        product, total = -2.0 * h, -2.0 * h + float(args[1][t])
        h = max(total, 0.0)
        for op, value in zip(expected, (product, total, h), strict=True):
            expected[op][t] = value
    assert len(stacked) == len(node.body.nodes)
    for inner, values in zip(node.body.nodes, stacked, strict=True):
        assert (values.shape, values.dtype) == ((3, *inner.shape), inner.dtype)
        if inner.op in expected:  # products and sums of a few numbers: a few roundings
            np.testing.assert_allclose(values, expected[inner.op], rtol=1e-6, atol=1e-6)
    called = next(inner for inner in node.body.nodes if inner.op == "custom_jvp_call")
    inside = node.body.body_values([value[0] for value in stacked], called)
    np.testing.assert_allclose(inside[-1], expected["custom_jvp_call"][0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"needs a node with a body, got node 0 \(input 'w'\)"):
        graph.body_values(graph.evaluate(*args), graph.nodes[0])


def test_nodes_off_the_path_have_zero_adjoint_and_integers_none():
    def fun(x, n):
        return x[n], jnp.cos(x)

    x = jnp.arange(3.0)
    graph = autodiff.trace(lambda x, n: fun(x, n)[0])(x, 1)
    adjoints = graph.backpropagate(graph.evaluate(x, 1), 1.0)
    for node, adjoint in zip(graph.nodes, adjoints, strict=True):
        if jnp.issubdtype(node.dtype, jnp.inexact):
            assert adjoint.shape == node.shape
        else:
            assert adjoint is None
    np.testing.assert_array_equal(adjoints[0], [0, 1, 0])
    cosine = autodiff.trace(lambda x: (jnp.cos(x), x)[1])(x)
    adjoints = cosine.backpropagate(cosine.evaluate(x), x)
    assert [node.op for node in cosine.nodes] == ["input", "cos"]
    np.testing.assert_array_equal(adjoints[1], np.zeros(3))


def test_constants_are_nodes_and_literal_outputs_too():
    table = np.arange(3, dtype=np.float32)
    graph = autodiff.trace(lambda x: (x * table, 2.0))(1.0)
    assert [node.op for node in graph.nodes].count("const") == 2
    values = graph.evaluate(3.0)
    np.testing.assert_array_equal(values[graph.outputs[0]], 3 * table)
    assert values[graph.outputs[1]] == 2.0


def test_the_graph_works_under_jit_and_vmap():
    graph = autodiff.trace(worked_example)(1.0, 2.0)

    @jax.jit
    def gradient(x, y):
        return graph.backpropagate(graph.evaluate(x, y), 1.0)[:2]

    points = jnp.linspace(0, 1, 4)
    expected = jax.vmap(jax.grad(worked_example, (0, 1)))(points, points)
    np.testing.assert_allclose(jax.vmap(gradient)(points, points), expected, rtol=1e-6)


@pytest.mark.slow
def test_a_chain_of_100_000_nodes_fits():
    length = 100_000

    def chain(x):
        for _ in range(length):
            x = jax.lax.sin(x)
        return x

    start = time.perf_counter()
    graph = autodiff.trace(chain)(1.0)
    values = graph.evaluate(1.0)
    adjoint = graph.backpropagate(values, 1.0)[0]
    seconds = time.perf_counter() - start
    expected = np.exp(np.sum(np.log(np.cos(np.asarray(values[:-1], np.float64)))))
    # Each of the factors is rounded: 1e5 roundings of 6e-8 in the worst case.
    np.testing.assert_allclose(adjoint, expected, rtol=1e5 * 6e-8)
    assert len(graph.nodes) == length + 1
    assert seconds < 60  # measured 12 s; JAX's own gradient takes 22 s


def test_a_missing_rule_is_said_and_refused_in_strict_mode():
    fun = lambda x: jnp.linalg.qr(x)[1]
    graph = autodiff.trace(fun)(jnp.eye(2))
    assert any(node.fallback for node in graph.nodes)
    with pytest.raises(
        ValueError, match=r"needs a rule for every primitive, got none for node \d+"
    ):
        autodiff.trace(fun, strict=True)(jnp.eye(2))
    with pytest.raises(ValueError, match="got none for"):
        autodiff.trace(lambda x: jax.lax.map(fun, x), strict=True)(jnp.ones((1, 2, 2)))


def test_effects_are_refused():
    def fun(x):
        jax.debug.print("{x}", x=x)
        return x

    with pytest.raises(ValueError, match="needs a function without effects, got debug"):
        autodiff.trace(fun)(1.0)


def test_wrong_arguments_name_the_node():
    graph = autodiff.trace(lambda x, y: x @ y)(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(
        ValueError, match=r"evaluate needs the shape \(3,\) at node 1 \(input 'y'\)"
    ):
        graph.evaluate(jnp.ones((2, 3)), jnp.ones(4))
    with pytest.raises(ValueError, match="evaluate needs the structure"):
        graph.evaluate(jnp.ones((2, 3)))
    values = graph.evaluate(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"backpropagate needs the shape \(2,\) at node 2"):
        graph.backpropagate(values, jnp.ones(3))
    with pytest.raises(ValueError, match="jvp needs the structure"):
        graph.jvp(values, (jnp.ones((2, 3)),))


def test_unknown_calls_to_enter_are_refused():
    with pytest.raises(ValueError, match="trace can enter 'jit' and 'remat' calls"):
        autodiff.trace(jnp.sin, enter=("scan",))


def test_keywords_are_held_fixed():
    def fun(x, *, weight, train):
        return jnp.sum(x * weight) if train else x

    weight = jnp.array([2.0, 3.0])
    graph = autodiff.trace(fun)(jnp.ones(2), weight=weight, train=True)
    assert [node.name for node in graph.nodes if node.op == "input"] == ["x"]
    values = graph.evaluate(jnp.array([1.0, 10.0]))
    assert float(values[graph.outputs[0]]) == 32.0
    assert graph.backpropagate(values, 1.0)[graph.inputs[0]].tolist() == [2.0, 3.0]
    inside = jax.jit(lambda w: autodiff.trace(fun)(w, weight=w, train=True).evaluate(w)[-1])
    assert float(inside(weight)) == 13.0


@pytest.mark.parametrize("change", [lambda v: v[:2], lambda v: [*v, 1.0], lambda _: []])
def test_more_or_fewer_values_than_nodes_are_refused(change):
    graph = autodiff.trace(lambda x, y: jnp.sin(x) * y)(1.0, 2.0)
    values = change(graph.evaluate(1.0, 2.0))
    message = f"needs 4 values, as evaluate returns them, got {len(values)}"
    with pytest.raises(ValueError, match=f"^backpropagate {message}"):
        graph.backpropagate(values, 1.0)
    with pytest.raises(ValueError, match=f"^jvp {message}"):
        graph.jvp(values, (1.0, 1.0))
    loop = autodiff.trace(lambda x: jax.lax.scan(lambda c, _: (2 * c, None), x, None, length=3)[0])(
        1.0
    )
    values = change(loop.evaluate(1.0))
    with pytest.raises(ValueError, match=r"^body_values needs 2 values"):
        loop.body_values([*values, 0.0, 0.0, 0.0], loop.nodes[-1])
