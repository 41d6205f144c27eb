"""Moving averages: identities, dtypes and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers.moments import (
    average,
    debias,
    require_dtype,
    require_matching,
    widen,
    zeros,
)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_debiased_average_is_the_weighted_mean(decay):
    values = np.random.default_rng(0).normal(size=(12, 3))
    averages = jnp.zeros(3)
    for t, value in enumerate(values, start=1):
        averages = average(jnp.asarray(value), averages, decay)
        weights = decay ** np.arange(t - 1, -1, -1)
        mean = weights @ values[:t] / weights.sum()
        # the correction divides by 1 - decay^t >= 0.1, which makes rounding errors ten times larger
        np.testing.assert_allclose(debias(averages, decay, jnp.array(t)), mean, atol=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_derivative_of_the_correction_is_right(decay, count):
    derivative = jax.grad(lambda b: debias(jnp.array(1.0), b, jnp.array(count)))(decay)
    power = count * decay ** (count - 1)  # 1 at decay 0 and count 1
    np.testing.assert_allclose(derivative, power / (1 - decay**count) ** 2, rtol=1e-14)


def test_an_integer_decay_of_zero_is_the_number_zero():
    np.testing.assert_array_equal(debias(jnp.ones(2), 0, jnp.array(1)), [1.0, 1.0])


@pytest.mark.parametrize(
    ("stored", "arrived", "computed"),
    [
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float32", "bfloat16", "float32"),
        ("bfloat16", "float32", "float32"),
        ("bfloat16", "float16", "float32"),
        ("complex64", "complex64", "complex64"),
    ],
)
def test_averages_in_the_wider_dtype(stored, arrived, computed):
    assert average(jnp.ones(2, arrived), jnp.zeros(2, stored), 0.9).dtype == computed
    assert {a.dtype for a in widen(jnp.ones(2, arrived), jnp.zeros(2, stored))} == {
        jnp.dtype(computed)
    }


def test_zeros_are_not_weakly_typed():
    assert not zeros({"w": 1.0})["w"].weak_type


def test_zeros_of_float64_without_x64_are_float32():
    assert zeros(jnp.ones(2), "float64").dtype == jnp.float32


@pytest.mark.parametrize(
    ("real", "dtype", "message"),
    [
        (False, "int8", r"^adam needs a floating or complex d, got d=int8\.$"),
        (False, bool, r"^adam needs a floating or complex d, got d=bool\.$"),
        (True, "complex64", r"^adam needs a floating d, got d=complex64\.$"),
    ],
    ids=["integer", "bool", "complex"],
)
def test_refuses_a_dtype_that_cannot_hold_the_average(real, dtype, message):
    with pytest.raises(ValueError, match=message):
        require_dtype("adam", real=real, d=dtype)


@pytest.mark.parametrize(
    ("updates", "error", "message"),
    [
        ({"a": jnp.ones(2)}, ValueError, "'b' on one side and 'a' on the other"),
        ({"b": jnp.ones(3)}, ValueError, r"got \(2,\) at 'b' and \(3,\) at 'b'"),
        ({"b": jnp.ones(2, int)}, TypeError, "got int32 at 'b'"),
        (
            {"b": jnp.ones(2, jnp.complex64)},
            TypeError,
            r"^adam needs gradients and averages that are both real or both complex, "
            r"got complex64 and float32 at 'b'\.$",
        ),
    ],
    ids=["path", "shape", "integer", "complex"],
)
def test_refuses_gradients_that_do_not_match(updates, error, message):
    with pytest.raises(error, match=message):
        require_matching(updates, {"b": jnp.zeros(2)}, "adam")
