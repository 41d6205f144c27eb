"""A fit as a layer: its parameters, differentiable in the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Implicit, Minimize, argmin
from jaxopt_tut.optimizers import half_squares, levenberg_marquardt


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "solver", [Minimize(levenberg_marquardt()), levenberg_marquardt()], ids=["loop", "steps"]
)
def test_a_line_differs_with_its_data_by_the_pseudo_inverse(solver):
    a = np.stack([np.ones(5), np.arange(5.0)], 1)
    f = half_squares(lambda y, z: a @ y - z)
    fit = lambda z: argmin(f, jnp.zeros(2), z, solver=solver, steps=50, diff=Implicit()).y
    data = jnp.array([1.0, 3.0, 2.0, 5.0, 4.0])
    np.testing.assert_allclose(fit(data), np.linalg.pinv(a) @ data, atol=1e-10)
    np.testing.assert_allclose(jax.jacrev(fit)(data), np.linalg.pinv(a), atol=1e-10)
