"""The power of two that scales a vector: exact, and within range."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.vectors import magnitude

_magnitude = jax.jit(magnitude)


@settings(deadline=None, max_examples=50)
@given(st.floats(2.0**-94, 2.0**94, width=32), st.sampled_from([-1, 1]))
def test_is_the_power_of_two_below_the_largest_entry(size, sign):
    power = float(_magnitude(jnp.array([0.0, sign * size, size / 3], jnp.float32)))
    assert np.frexp(power)[0] == 0.5
    assert power <= size < 2 * power


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_whole_range_of_a_dtype_scales_without_loss(dtype):
    with jax.enable_x64(dtype == "float64"):
        info = jnp.finfo(dtype)
        for size in (info.tiny, 1.0, info.max):
            x = jnp.array([size, -size], dtype)
            power = _magnitude(x)
            assert power.dtype == x.dtype
            np.testing.assert_array_equal(jax.jit(lambda x, p: x / p * p)(x, power), x)


@pytest.mark.parametrize("values", [[0.0, 0.0], [], [jnp.inf, 1.0], [1.0, jnp.nan]])
def test_what_has_no_scale_has_scale_one(values):
    assert _magnitude(jnp.array(values)) == 1


def test_is_that_of_the_largest_of_several_arrays():
    assert _magnitude(jnp.ones((2, 2)), jnp.array([5.0])) == 4
