"""Ridge regression, whose inner paths and solutions have formulas."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

RATE = 0.4
NUM_STEPS = 30


class Ridge(NamedTuple):
    """`f(y, z) = |X y - t|^2 / (2 n) + exp(z) |y|^2 / 2` and a validation loss."""

    train: jax.Array
    targets: jax.Array
    validation: jax.Array
    validation_targets: jax.Array
    start: jax.Array

    def f(self, y, z):
        misfit = self.train @ y - self.targets
        return 0.5 * jnp.mean(misfit**2) + 0.5 * jnp.exp(z) * jnp.sum(y**2)

    def outer(self, y, z):
        misfit = self.validation @ y - self.validation_targets
        return 0.5 * jnp.mean(misfit**2) + 0.01 * z**2

    def solution(self, z):
        hessian, right = self.normal_equations(z)
        return jnp.linalg.solve(hessian, right)

    def path(self, z, rate, start, num_steps):
        """Return the point of gradient descent after `num_steps`, in the eigenbasis."""
        hessian, right = self.normal_equations(z)
        eigenvalues, vectors = jnp.linalg.eigh(hessian)
        optimum = jnp.linalg.solve(hessian, right)
        shrink = (1 - rate * eigenvalues) ** num_steps
        return optimum + vectors @ (shrink * (vectors.T @ (start - optimum)))

    def normal_equations(self, z):
        count, dim = self.train.shape
        hessian = self.train.T @ self.train / count + jnp.exp(z) * jnp.eye(dim)
        return hessian, self.train.T @ self.targets / count


def make_ridge(dtype="float64", dim=5):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), dtype)
    return Ridge(draw(12, dim), draw(12), draw(9, dim), draw(9), draw(dim))
