"""A function with a gradient of its own passes for one that is differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxopt_tut.optimizers.objective import differentiated_by, value_and_ascent

TREE = {"a": jnp.array([1.0, -2.0]), "none": None, "z": jnp.array(0.5 + 2j), "empty": jnp.ones(0)}


def quartic(tree):
    return jnp.sum(tree["a"] ** 4) + jnp.abs(tree["z"] - 1j) ** 2 * tree["a"][0]


@pytest.mark.parametrize("has_aux", [False, True])
def test_its_derivatives_are_those_of_the_gradient(has_aux):
    def value_and_grad(tree):
        value, grad = jax.value_and_grad(quartic)(tree)
        return (value, "aux") if has_aux else value, grad

    value_fn = differentiated_by(value_and_grad)
    for one, other in zip(
        jax.tree.leaves(value_and_ascent(value_fn)(TREE)),
        jax.tree.leaves(value_and_ascent(quartic)(TREE)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    check_grads(value_fn, (TREE,), order=2, eps=0.05, atol=0.1, rtol=0.1)


def test_a_gradient_of_another_precision_is_cast():
    value_fn = differentiated_by(lambda w: (jnp.float32(3.0), w))
    half = jax.grad(value_fn)(jnp.array([2.0, 3.0], jnp.bfloat16))
    np.testing.assert_array_equal(half, [2, 3])
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("transform", [jax.jit, lambda f: lambda w: jax.vmap(f)(w[None])[0]])
def test_it_may_close_over_what_is_traced(transform):
    def outer(scale):
        value_fn = differentiated_by(jax.value_and_grad(lambda w: scale * w**2))
        return jax.grad(value_fn)(3.0)

    assert transform(outer)(jnp.array(2.0)) == 12
    assert jax.grad(outer)(jnp.array(2.0)) == 6
