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


ROBUST = [*list(LOSSES)[1:], ONE_S_OWN]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", ROBUST)
def test_residuals_are_smooth_at_0_and_their_squares_are_the_losses(loss):
    squares = RobustSquares("test", lambda r: r, loss, 0.5)
    at = lambda r: squares.residuals(r)[0]
    assert jax.grad(at)(0.0) == 1
    assert jax.grad(jax.grad(at))(0.0) == 0
    for r in (1e-9, 1e-3, 0.3, 7.0):
        np.testing.assert_allclose(at(-r) ** 2 / 2, squares(r), rtol=1e-12)
        assert squares.residuals(r)[1] == 0
        # the derivative of half the square is that of the loss
        np.testing.assert_allclose(
            at(r) * jax.grad(at)(r), jax.grad(squares)(r), rtol=1e-7, atol=1e-16
        )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("loss", ROBUST)
def test_the_squared_slopes_of_residuals_are_the_weights_of_reweighted_least_squares(
    loss, jacobian
):
    squares = RobustSquares("test", lambda r: r, loss, 0.5)
    for r in (0.0, 1e-9, -1e-3, 0.3, -7.0, 1e5):
        slopes = jnp.stack(jacobian(squares.residuals)(r))
        # grad of the objective is w r
        weight = jax.grad(squares)(r) / r if r else 1.0
        # far out, each slope is a difference of numbers below 1
        np.testing.assert_allclose(
            slopes @ slopes, weight, rtol=1e-8, atol=np.finfo(float).eps ** 2
        )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", ROBUST)
def test_slopes_of_residuals_have_derivatives_of_their_own(loss):
    slopes = lambda r, c: jnp.stack(
        jax.jacfwd(RobustSquares("test", lambda r: r, loss, c).residuals)(r)
    )
    r, c, h = 0.8, 0.5, 1e-5
    for argument, (dr, dc) in enumerate([(h, 0.0), (0.0, h)]):
        found = jax.jacfwd(slopes, argument)(r, c)
        differences = (slopes(r + dr, c + dc) - slopes(r - dr, c - dc)) / (2 * h)
        # central differences err by h^2 and by eps / h
        np.testing.assert_allclose(found, differences, rtol=1e-7, atol=1e-8)
