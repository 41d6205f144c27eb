"""Robust losses: values, and residuals that are smooth at 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers.robust_losses import LOSSES, RobustSquares

SCIPY = {
    "linear": lambda z: z,
    "huber": lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
    "soft_l1": lambda z: 2 * ((1 + z) ** 0.5 - 1),
    "cauchy": np.log1p,
    "arctan": np.arctan,
}
ONE_S_OWN = lambda z: -jnp.expm1(-z)  # Welsch's


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", LOSSES)
def test_values_are_those_that_scipy_documents(loss):
    r = np.array([-30.0, -1.0, -1e-3, 0.0, 0.5, 2.0, 1e5])
    found = RobustSquares("test", lambda r: r, loss, 0.5)(jnp.array(r))
    np.testing.assert_allclose(found, 0.125 * np.sum(SCIPY[loss](4 * r**2)), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", [*LOSSES, ONE_S_OWN])
def test_residuals_are_smooth_at_0_and_their_squares_are_the_losses(loss):
    squares = RobustSquares("test", lambda r: r, loss, 0.5)
    at = squares.residuals
    assert jax.grad(at)(0.0) == 1
    assert jax.grad(jax.grad(at))(0.0) == 0
    for r in (1e-9, 1e-3, 0.3, 7.0):
        np.testing.assert_allclose(at(-r) ** 2 / 2, squares(r), rtol=1e-12)
        # the derivative of half the square is that of the loss
        np.testing.assert_allclose(
            at(r) * jax.grad(at)(r), jax.grad(squares)(r), rtol=1e-7, atol=1e-16
        )
