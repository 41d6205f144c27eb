"""A node with a hand-written derivative is one node, and a JAX function in every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff

Z = jnp.array([-700.0, -2.0, -0.3, 0.4, 3.0, 800.0])


def plain_elu(z):
    return jnp.where(z > 0, z, jnp.exp(z) - 1)


def blend(x, y):
    """A node with two inputs of different shapes."""
    return jnp.sin(x) * y, (x, y)


def blend_back(residuals, cotangent):
    x, y = residuals
    return cotangent * jnp.cos(x) * y, jnp.sum(cotangent * jnp.sin(x))


node = autodiff.custom_node(blend, blend_back)


def test_elu_is_one_node_where_the_plain_formula_is_many():
    graph = autodiff.trace(autodiff.elu, strict=True)(Z)
    assert [(n.op, n.name) for n in graph.nodes if n.op == "custom_jvp_call"] == [
        ("custom_jvp_call", "elu")
    ]
    assert len([n for n in graph.nodes if n.op != "input"]) == 1
    assert len(autodiff.trace(plain_elu)(Z).nodes) > 4


def test_elu_has_no_trap_at_800():
    assert np.isnan(jax.grad(plain_elu)(800.0))
    expected = np.where(Z > 0, 1, np.exp(np.minimum(Z, 0)))
    for engine in (jax, autodiff):
        slope = jax.jit(jax.vmap(engine.grad(autodiff.elu)))(Z)
        np.testing.assert_allclose(slope, expected, rtol=1e-6)
    np.testing.assert_allclose(autodiff.elu(Z), jax.nn.elu(Z), rtol=1e-6)


def test_elu_differentiates_twice_and_through_alpha():
    z = jnp.array([-1.0, 2.0])

    @jax.jit
    def derivatives(z):
        second = jax.vmap(jax.grad(jax.grad(autodiff.elu)))(z)
        product = autodiff.hvp(lambda z: jnp.sum(autodiff.elu(z)), (z,), (z,))
        by_alpha = jax.grad(lambda a: jnp.sum(autodiff.elu(z, a)))(1.0)
        at_zero = [jax.grad(autodiff.elu)(0.0), jax.grad(autodiff.elu)(0.0, 0.5)]
        return second, product, by_alpha, at_zero

    second, product, by_alpha, at_zero = derivatives(z)
    np.testing.assert_allclose(second, [np.exp(-1), 0], rtol=1e-6)
    np.testing.assert_allclose(product, second * z, rtol=1e-6)
    np.testing.assert_allclose(by_alpha, np.expm1(-1), rtol=1e-6)
    assert at_zero == [1.0, 0.5]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("engine", [jax, autodiff], ids=["jax", "ours"])
def test_one_rule_serves_both_modes_and_their_composition(engine):
    x, y = jnp.linspace(-1.0, 2.0, 4), jnp.asarray(1.7)
    tangents = (jnp.ones(4), jnp.asarray(0.3))

    def derivatives(f):
        return (
            engine.grad(f, (0, 1))(x, y),
            engine.jvp(f, (x, y), tangents)[1],
            engine.jvp(engine.grad(f, (0, 1)), (x, y), tangents)[1],
            jax.vmap(engine.grad(f), (None, 0))(x, jnp.stack([y, 2 * y])),
        )

    plain = jax.jit(lambda: derivatives(lambda x, y: jnp.sum(jnp.sin(x) * y) ** 2))()
    ours = jax.jit(lambda: derivatives(lambda x, y: jnp.sum(node(x, y)) ** 2))()
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_a_backward_that_is_not_linear_works_in_reverse_only_and_says_so():
    clipped = autodiff.custom_node(lambda x: (2 * x, ()), lambda _, g: jnp.clip(2 * g, -1, 1))
    with pytest.warns(UserWarning, match="not linear in the cotangent: reverse mode only"):
        slope = jax.grad(lambda x: 5 * clipped(x))(1.0)
    assert slope == 1.0
    with pytest.warns(UserWarning, match="reverse mode only"):
        assert autodiff.grad(lambda x: 5 * clipped(x))(1.0) == 1.0
    with (
        pytest.warns(UserWarning, match="reverse mode only"),
        pytest.raises(TypeError, match="has a custom_vjp: reverse mode only"),
    ):
        autodiff.jvp(clipped, (1.0,), (1.0,))


def test_wrong_cotangents_are_refused():
    few = autodiff.custom_node(blend, lambda r, g: g * r[1], name="few")
    with pytest.raises(ValueError, match="'few' needs one cotangent for each of its 2 inputs"):
        jax.grad(lambda x: jnp.sum(few(x, jnp.float32(2.0))))(Z)
    long = autodiff.custom_node(lambda x: (x, x.shape), lambda _, g: jnp.ones(3) * g, name="long")
    with pytest.raises(ValueError, match="'long' needs cotangents of the shapes"):
        jax.grad(lambda x: long(x))(jnp.float32(1.0))


def test_parts_that_cannot_be_called_are_refused():
    with pytest.raises(TypeError, match="custom_node needs a function as backward, got None"):
        autodiff.custom_node(blend, None)
    with pytest.raises(TypeError, match="elu needs a floating array, got int32"):
        autodiff.elu(3)
