"""Cubics and parabolas through two points have their minimum where closed form says."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers.line_search.interpolation import cubic_minimizer, secant_root
from jaxopt_tut.optimizers.line_search.search import Point


def sample(step, value=None, slope=None):
    value, slope = (None if x is None else jnp.asarray(x) for x in (value, slope))
    return Point(jnp.asarray(step), value, slope, None)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("ends", [(0.0, 3.0), (3.0, 0.0), (-0.5, 2.0)])
def test_the_minimum_of_a_cubic_is_found(ends, scale):
    # t^3 - 3 t has it at 1; a few roundings, amplified by (b - a) at most
    a, b = (sample(t, scale * (t**3 - 3 * t), scale * (3 * t**2 - 3)) for t in ends)
    np.testing.assert_allclose(cubic_minimizer(a, b), 1, rtol=1e-5)


def test_where_there_is_no_minimum_the_step_is_not_finite():
    falling = [sample(t, -(t**3) - t, -3 * t**2 - 1) for t in (0.0, 1.0)]
    assert not jnp.isfinite(cubic_minimizer(*falling))
    assert not jnp.isfinite(secant_root(sample(0.0, slope=2.0), sample(1.0, slope=2.0)))


@pytest.mark.parametrize("ends", [(0.0, 3.0), (5.0, 4.0)])
def test_a_line_through_two_slopes_crosses_zero(ends):
    a, b = (sample(t, slope=t - 2) for t in ends)
    assert secant_root(a, b) == 2
