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


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", ["linear", "cauchy"])
def test_a_curve_differs_with_its_data_as_finite_differences_say(loss):
    t = np.linspace(0.0, 3.0, 8)
    f = half_squares(lambda y, z: y[0] * jnp.exp(-y[1] * t) - z, loss=loss, loss_scale=0.2)
    solver, mode = Minimize(levenberg_marquardt()), Implicit()
    fit = jax.jit(
        lambda z: argmin(
            f, jnp.ones(2), z, solver=solver, steps=100, diff=mode, tol=1e-12
        ).y
    )  # fmt: skip
    data = jnp.array(2 * np.exp(-0.7 * t) + 0.1 * np.cos(9 * t))
    h, found = 1e-4, jax.jit(jax.jacrev(fit))(data)
    for i in range(8):
        step = h * np.eye(8)[i]
        # central differences err by h^2 of a third derivative, and by 1e-12 / h
        np.testing.assert_allclose(
            found[:, i], (fit(data + step) - fit(data - step)) / (2 * h), rtol=1e-5, atol=1e-6
        )
