"""Which pairs go into the estimate of the Hessian, and how long its first step is."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers.bfgs import is_curved, shorten


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize(
    ("y", "expected"), [([1.0, 1.0], True), ([1.0, -1.0], False), ([1.0, -2.0], False)]
)
def test_a_pair_is_curved_if_the_slope_rises_along_the_step_at_any_scale(y, expected, scale):
    s, y = (scale * jnp.array(x) for x in ([1.0, 1.0], y))
    assert is_curved(s, y) == expected


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_pair_that_is_not_finite_is_not_curved(bad):
    assert not is_curved(jnp.array([1.0, 1.0]), jnp.array([1.0, bad]))


@pytest.mark.parametrize(
    ("g", "expected"),
    [
        ([3.0, 4.0], [0.6, 0.8]),
        ([0.3, -0.4], [0.3, -0.4]),
        ([3e30, 4e30], [0.6, 0.8]),
        ([3e-30, 4e-30], [0.6, 0.8]),  # its square underflows
        ([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_a_first_direction_has_length_one_at_most(g, expected):
    # a root, a product and a quotient: some units of rounding
    np.testing.assert_allclose(shorten(jnp.array(g)), expected, rtol=4 * jnp.finfo("float32").eps)
