"""The wrong rule is found by itself, wherever it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.array([0.3, -0.2])}
X = jnp.array([0.5, -1.0, 2.0])

wrong_tanh = autodiff.custom_node(
    lambda x: (jnp.tanh(x), x), lambda x, g: -g * (1 - jnp.tanh(x) ** 2), name="wrong_tanh"
)


def test_find_wrong_rule_points_at_the_node():
    node = autodiff.custom_node(
        lambda x, y: (x * y, (x, y)), lambda r, g: (g * r[1], 0.5 * g * r[0]), name="scaled"
    )

    def fun(params, x):
        h = jax.jit(lambda v: jnp.tanh(params["w"] @ v))(x)
        return jnp.sum(jnp.exp(node(h, params["b"])) + jnp.sort(h))

    found = autodiff.find_wrong_rule(fun, (PARAMS, X))
    assert (found.op, found.name) == ("custom_jvp_call", "scaled")
    assert found.index == autodiff.trace(fun)(PARAMS, X).nodes[found.index].index
    assert (
        autodiff.find_wrong_rule(lambda p, x: jnp.sum(jnp.tanh(p["w"] @ x + p["b"])), (PARAMS, X))
        is None
    )


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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("size", [4096, 100_000])
def test_a_wrong_rule_is_found_in_arrays_of_any_size(size, dtype):
    x = jax.random.normal(jax.random.key(0), (size,)).astype(dtype)
    found = autodiff.find_wrong_rule(lambda x: jnp.sum(wrong_tanh(x) * x), (x,))
    assert found.name == "wrong_tanh"
    assert autodiff.find_wrong_rule(lambda x: jnp.sum(jnp.tanh(x) * x), (x,)) is None


def test_a_node_at_a_kink_is_not_wrong():
    x = jnp.array([0.0, 1.0, 1.0, -2.0])
    fun = lambda x: jnp.max(jnp.abs(x)) + jnp.sum(jnp.sort(jnp.maximum(x, 0)))
    assert autodiff.find_wrong_rule(fun, (x,)) is None


def test_bad_rules_are_refused():
    with pytest.raises(TypeError, match="defvjp needs a primitive such as"):
        autodiff.defvjp("sin", lambda *a: a)
    with pytest.raises(TypeError, match="needs a function as the rule of sin"):
        autodiff.defvjp(jax.lax.sin_p, None)
