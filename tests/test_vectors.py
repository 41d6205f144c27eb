"""Numbers near the ends of their range and at zero: scales, roots and ratios."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.vectors import magnitude, safe_ratio, safe_root

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


@pytest.mark.parametrize("x", [0.0, 4.0, jnp.inf, -1.0, jnp.nan], ids=str)
def test_a_safe_root_is_the_root_with_a_finite_derivative_at_zero(x):
    np.testing.assert_array_equal(safe_root(jnp.array(x)), jnp.sqrt(jnp.array(x)))
    slopes = [jax.grad(root)(x) for root in (safe_root, jnp.sqrt)]
    np.testing.assert_array_equal(slopes[0], 0.0 if x == 0 else slopes[1])


def test_a_safe_ratio_divides_where_it_can():
    a, b = jnp.array([6.0, 1.0, 0.0, 2.0]), jnp.array([3.0, 0.0, 0.0, jnp.nan])
    np.testing.assert_array_equal(safe_ratio(a, b, otherwise=7), [2, 7, 7, jnp.nan])
    np.testing.assert_array_equal(safe_ratio(a, b, where=b > 0), [2, 0, 0, 0])
    slopes = jax.grad(lambda a, b: safe_ratio(a, b).sum(), argnums=(0, 1))(a[:3], b[:3])
    np.testing.assert_allclose(slopes, [[1 / 3, 0, 0], [-2 / 3, 0, 0]], rtol=2**-22)
