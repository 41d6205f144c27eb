"""What is a loss, what it returns beside its value, and where it rises."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxopt_tut.losses import (
    WithoutAux,
    differentiated_by,
    first_that_works,
    is_real_scalar,
    require_loss,
    value_and_ascent,
    value_part,
)

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


SCALARS = {
    "a number of Python": 2.0,
    "a number of NumPy": np.float64(2),
    "an array of NumPy": np.zeros((), np.float32),
    "half precision": jnp.bfloat16(2),
    "a shape": jax.ShapeDtypeStruct((), jnp.float32),
    "a type": jax.typeof(jnp.float32(2)),
}
OTHERS = {
    "an integer": 2,
    "a truth value": True,
    "a complex number": jnp.complex64(2),
    "integers": jnp.int32(2),
    "an axis": jnp.ones(1),
    "no entry": jnp.ones(0),
    "nothing": None,
    "a string": "2",
    "a list": [2.0],
    "a key": jax.random.key(0),
    "a tuple of one": (2.0,),
    "three": (2.0, 1.0, 0.0),
}


@pytest.mark.parametrize("name", SCALARS)
def test_what_is_a_real_scalar_is_a_loss_alone_or_first_of_a_pair(name):
    value = SCALARS[name]
    assert is_real_scalar(value)
    assert require_loss("fit", value) is False
    assert require_loss("fit", (value, "metrics")) is True
    assert value_part(value) is value_part((value, None)) is value


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_refused(name):
    value = OTHERS[name]
    assert not is_real_scalar(value)
    for result in (value, (value, "metrics")):
        with pytest.raises(ValueError, match=r"^fit needs a loss that is a real scalar, .* got "):
            require_loss("fit", result)


def test_a_refusal_says_what_came():
    with pytest.raises(ValueError, match=r"got int32\[2, 3\]\.$"):
        require_loss("fit", (jnp.ones((2, 3), jnp.int32), 1.0))
    with pytest.raises(ValueError, match=r"got tuple\.$"):
        require_loss("fit", (1.0, 2.0, 3.0))


def test_a_traced_value_is_a_real_scalar():
    seen = []
    jax.jit(lambda x: (seen.extend([is_real_scalar(x), is_real_scalar(x[None])]), x)[1])(1.0)
    assert seen == [True, False]


def test_losses_without_aux_are_equal_where_the_losses_are():
    loss = lambda w: (w, "aux")
    assert WithoutAux(loss) == WithoutAux(loss) != WithoutAux(lambda w: (w, "aux"))
    assert hash(WithoutAux(loss)) == hash(WithoutAux(loss))
    assert WithoutAux(loss)(3.0) == WithoutAux(lambda w: w)(3.0) == 3.0


def test_the_direction_of_ascent_is_that_of_differences():
    loss = lambda z: jnp.real(z) ** 3 * jnp.imag(z) + jnp.cos(jnp.imag(z))
    with jax.enable_x64(True):
        z, h = jnp.array(0.7 - 1.3j), 1e-6
        along = lambda d: (loss(z + d) - loss(z - d)) / (2 * h)
        # error h^2 / 6 times a third derivative below 10, and 1e-16 / h of rounding
        np.testing.assert_allclose(
            value_and_ascent(loss)(z)[1], along(h) + 1j * along(1j * h), rtol=1e-8
        )


def test_what_reverse_mode_refuses_is_differentiated_forwards():
    def loss(tree):
        grown = jax.lax.while_loop(lambda x: jnp.abs(x) < 10, lambda x: 2 * x, tree["z"])
        return jnp.abs(grown) ** 2 + tree["w"]

    tree = {"w": jnp.array(1.0), "z": jnp.array(1 + 2j)}
    value, ascent = value_and_ascent(loss)(tree)  # 8 z: 64 |z|^2
    assert (value, ascent["w"], ascent["z"]) == (321, 1, 128 + 256j)


def test_what_a_loss_itself_raises_is_raised():
    def loss(_):
        raise KeyError("no such layer")

    with pytest.raises(KeyError, match="no such layer"):
        value_and_ascent(loss)(1.0)


def test_there_is_an_end_to_forward_mode():
    loss = lambda w: jax.lax.while_loop(lambda x: x < 1, lambda x: x + 1, jnp.sum(w))
    value_and_ascent(loss)(jnp.zeros(1000))
    with pytest.raises(ValueError, match="while_loop"):
        value_and_ascent(loss)(jnp.zeros(1001))


MODES = {
    "a loop of unknown length": ValueError("Reverse-mode differentiation does not work for lax"),
    "no transpose": NotImplementedError("Transpose rule (for reverse-mode differentiation)"),
    "a linear solve": TypeError("transpose_solve required for backwards mode automatic"),
    "a rule for reverse mode": TypeError("can't apply forward-mode autodiff (jvp) to a custom_vjp"),
    "equinox": RuntimeError("Unexpected cotangent. f cannot be reverse-mode autodifferentiated."),
}
OTHER_ERRORS = {
    "memory": RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    "complex": TypeError("grad requires real-valued outputs, but got complex64."),
    "shape": TypeError("Gradient only defined for scalar-output functions."),
    "their own": KeyError("layer"),
}


def fail(error):
    raise error


@pytest.mark.parametrize("name", MODES)
def test_the_other_mode_is_tried_where_one_is_not_defined(name):
    assert first_that_works(lambda: fail(MODES[name]), lambda: 3)() == 3


@pytest.mark.parametrize("name", OTHER_ERRORS)
def test_any_other_error_is_raised_at_once(name):
    calls = []
    with pytest.raises(type(OTHER_ERRORS[name])) as caught:
        first_that_works(lambda: fail(OTHER_ERRORS[name]), lambda: calls.append(1))()
    assert caught.value is OTHER_ERRORS[name]
    assert calls == []


def test_the_first_of_two_errors_is_told():
    first = MODES["a loop of unknown length"]
    with pytest.raises(ValueError, match="Reverse-mode") as caught:
        first_that_works(lambda: fail(first), lambda: fail(KeyError("second")))()
    assert caught.value.__suppress_context__


def by_equinox(w):
    return eqx.internal.nondifferentiable_backward(w) ** 2


@pytest.mark.parametrize("loss", [by_equinox])
def test_what_libraries_say_of_reverse_mode_is_understood(loss):
    with pytest.raises(Exception, match=r"(?i)reverse[- ]mode"):
        jax.grad(loss)(3.0)
    assert value_and_ascent(loss)(jnp.float32(3))[1] == 6
