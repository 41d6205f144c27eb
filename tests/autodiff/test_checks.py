"""The checks pass what is right, and point at what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.array([0.3, -0.2])}
X = jnp.array([0.5, -1.0, 2.0])


def model(params, x):
    return jnp.tanh(params["w"] @ x + params["b"]), jnp.argmax(x)


def scaled_rule(factor):
    """An identity in one of its inputs whose derivative is off by a factor."""
    return autodiff.custom_node(
        lambda x, y: (x * y, (x, y)), lambda r, g: (g * r[1], factor * g * r[0]), name="scaled"
    )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_right_derivatives_pass(order, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        args = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), (PARAMS, X))
        check = autodiff.check_gradients(model, args, order=order)
    assert check.ok
    assert check.error < (1e-3 if dtype == jnp.float32 else 1e-8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("factor", [1.001, -1.0], ids=["a thousandth", "the sign"])
def test_a_wrong_derivative_is_named(mode, factor):
    node = scaled_rule(factor)
    args = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (PARAMS, X))
    fun = lambda params, x: node(params["w"], x[None] * jnp.ones((2, 3)))
    check = autodiff.check_gradients(fun, args, modes=(mode,))
    assert (check.ok, check.worst_leaf, check.mode) == (False, "1", mode)
    assert check.direction.shape == X.shape
    assert check.error > 1e-5


@pytest.mark.usefixtures("x64")
def test_the_taylor_slope_tells_right_from_wrong():
    right = autodiff.check_gradients(lambda x: jnp.exp(x), (jnp.asarray(1.0),))
    twice = autodiff.custom_node(lambda x: (jnp.exp(x), x), lambda x, g: 2 * jnp.exp(x) * g)
    wrong = autodiff.check_gradients(twice, (jnp.asarray(1.0),))
    assert abs(right.slope - 2) < 0.05
    assert abs(wrong.slope - 1) < 0.05


def test_second_order_errors_show_at_order_two():
    """A node whose derivative is right but whose backward does not know its own derivative."""
    frozen = autodiff.custom_node(
        lambda x: (x**3, x), lambda x, g: 3 * jax.lax.stop_gradient(x) ** 2 * g
    )
    assert autodiff.check_gradients(frozen, (1.5,)).ok
    assert not autodiff.check_gradients(frozen, (1.5,), order=2).ok


def test_complex_leaves_are_checked():
    z = jnp.array([1.0 + 2.0j, -0.5 + 0.3j])
    assert autodiff.check_gradients(lambda z: jnp.sin(z) * jnp.abs(z).astype(z.dtype), (z,)).ok


def test_find_wrong_rule_points_at_the_node():
    node = scaled_rule(0.5)

    def fun(params, x):
        h = jax.jit(lambda v: jnp.tanh(params["w"] @ v))(x)
        return jnp.sum(jnp.exp(node(h, params["b"])) + jnp.sort(h))

    found = autodiff.find_wrong_rule(fun, (PARAMS, X))
    assert (found.op, found.name) == ("custom_jvp_call", "scaled")
    assert found.index == autodiff.trace(fun)(PARAMS, X).nodes[found.index].index
    assert autodiff.find_wrong_rule(lambda p, x: jnp.sum(model(p, x)[0]), (PARAMS, X)) is None


def test_find_wrong_rule_sees_a_replaced_rule():
    primitive = jax.lax.atan_p
    from jaxopt_tut.autodiff import registry

    kept, push = registry.RULES[primitive], registry.PUSHES[primitive]
    try:
        autodiff.defvjp(primitive, lambda g, x, *_: [g[0] * jnp.cos(x[0])])
        found = autodiff.find_wrong_rule(lambda x: jnp.sin(jax.lax.atan(x * 2.0)), (0.7,))
        assert found.op == "atan"
        assert abs(autodiff.jvp(jax.lax.atan, (0.7,), (1.0,))[1] - np.cos(0.7)) < 1e-6
    finally:
        registry.RULES[primitive], registry.PUSHES[primitive] = kept, push


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="check_gradients needs order 1 or 2, got order=3"):
        autodiff.check_gradients(jnp.sin, (1.0,), order=3)
    with pytest.raises(ValueError, match="needs modes 'forward', 'reverse', got modes="):
        autodiff.check_gradients(jnp.sin, (1.0,), modes=("sideways",))
    with pytest.raises(ValueError, match="needs a floating argument, got none"):
        autodiff.check_gradients(lambda n: n * 1.0, (1,))
    with pytest.raises(TypeError, match="defvjp needs a primitive such as"):
        autodiff.defvjp("sin", lambda *a: a)
    with pytest.raises(TypeError, match="needs a function as the rule of sin"):
        autodiff.defvjp(jax.lax.sin_p, None)
