"""Planted NaNs and infinities are found at the operation that makes them."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.diagnostics import first_nonfinite
from jaxopt_tut.models import mlp

X = jnp.array([[2.0, 1.0], [1.0, 2.0]])


@pytest.mark.slow
def test_a_healthy_network_has_none():
    params = mlp.init(jax.random.key(0), (2, 4, 1))
    loss_fn = lambda params, x: jnp.mean(mlp.apply(params, x) ** 2)
    assert first_nonfinite(loss_fn, params, X, gradient=True) is None


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_the_first_of_several_is_named_with_its_layer(jit):
    def network(params, x):
        hidden = jnp.exp(100 * (x @ params["inner"]))
        return (hidden - hidden) @ params["outer"]

    params = {"inner": jnp.ones((2, 3)), "outer": jnp.ones((3, 1))}
    site = first_nonfinite(jax.jit(network) if jit else network, params, X)
    assert site is not None
    assert (site.op, site.param) == ("exp", "inner")


def test_a_nan_inside_a_scan_is_found():
    def network(w, x):
        return jax.lax.scan(lambda h, _: (jnp.log(h @ w) + 0.0, None), x, None, length=3)[0]

    site = first_nonfinite(network, jnp.eye(2), X)
    assert site is not None
    assert site.op == "log"


def test_the_backward_pass_is_searched_on_request():
    def loss_fn(w, x):
        return jnp.sum(jnp.sqrt(jnp.maximum(x @ w, 0.0) * 2.0))

    w = jnp.array([0.0, 0.0])
    assert first_nonfinite(loss_fn, w, X) is None
    site = first_nonfinite(loss_fn, w, X, gradient=True)
    assert site is not None
    assert site.op == "sqrt"


@pytest.mark.parametrize("gradient", [False, True])
def test_a_branch_that_is_not_taken_and_a_loop_that_does_not_turn_are_finite(gradient):
    def fun(w, x):
        z = jax.lax.cond(w > 0, lambda z: 2 * jnp.sqrt(z), lambda z: jnp.cos(z) + 1, w * x)
        turned = jax.lax.while_loop(
            lambda carry: carry[0] < 0, lambda carry: (carry[0] + 1, jnp.tan(carry[1])), (0, x)
        )
        return jnp.sum(z) + jnp.sum(turned[1])

    assert first_nonfinite(fun, jnp.array(1.0), X, gradient=gradient) is None
    # the branch that is taken is still looked at
    assert first_nonfinite(fun, jnp.array(jnp.nan), X, gradient=gradient) is not None
    assert first_nonfinite(fun, jnp.array(1.0), -X).op == "sqrt"


def test_a_function_without_values_has_none():
    assert first_nonfinite(lambda n: n + 1, jnp.arange(3)) is None


def test_an_untraceable_function_is_refused():
    with pytest.raises(TypeError, match="first_nonfinite cannot trace"):
        first_nonfinite(lambda x: x if x.sum() > 0 else -x, X)
