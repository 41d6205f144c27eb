"""Ridge regression against NumPy's least squares in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel.layers import ridge

_solve = jax.jit(ridge)


def draw(rng, *shape, is_complex=False):
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if is_complex else real


def matrix(rng, rows, dim, condition, is_complex=False):
    left, _ = np.linalg.qr(draw(rng, rows, rows, is_complex=is_complex))
    right, _ = np.linalg.qr(draw(rng, dim, dim, is_complex=is_complex))
    count = min(rows, dim)
    return (left[:, :count] * np.logspace(0, -np.log10(condition), count)) @ right[:count]


def least_squares(X, y, lam):
    """Solve the augmented system."""
    dim = X.shape[1]
    system = np.concatenate([X, np.sqrt(lam) * np.eye(dim)])
    zeros = np.zeros((dim, *y.shape[1:]))
    return np.linalg.lstsq(system, np.concatenate([y, zeros]), rcond=None)[0]


@pytest.mark.parametrize("shape", [(40, 8), (8, 40), (12, 12)], ids=str)
def test_single_precision_loses_the_condition_once(shape):
    rng, eps = np.random.default_rng(0), np.finfo(np.float32).eps
    for condition in (1e1, 1e3, 1e4):
        for scale in (1.0, 1e-12, 1e12):
            for relative in (0.0, 1e-10, 1e-2):
                X = (scale * matrix(rng, *shape, condition)).astype(np.float32)
                # consistent, so that the condition counts once; and not along the largest alone
                y = X @ (draw(rng, shape[1]) / scale).astype(np.float32)
                lam = np.float32(relative * scale**2)
                expected = least_squares(X.astype(float), y.astype(float), float(lam))
                error = np.linalg.norm(_solve(X, y, lam) - expected) / np.linalg.norm(expected)
                assert error < 10 * eps * condition + 20 * eps


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", [(7, 3), (3, 7)], ids=str)
@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_values_and_derivatives_are_those_of_least_squares(shape, lam, is_complex):
    rng = np.random.default_rng(0)
    X, dX = (matrix(rng, *shape, 5, is_complex) for _ in range(2))
    y, dy = (draw(rng, shape[0], 2, is_complex=is_complex) for _ in range(2))
    d_lam = 0.1 if lam else 0.0
    np.testing.assert_allclose(_solve(X, y, lam), least_squares(X, y, lam), atol=1e-13)
    at = lambda t: least_squares(X + t * dX, y + t * dy, lam + t * d_lam)
    h = 1e-5  # truncation h^2, rounding eps / h
    along = lambda t: _solve(X + t * dX, y + t * dy, lam + t * d_lam)
    slope = jax.jvp(along, (0.0,), (1.0,))[1]
    np.testing.assert_allclose(slope, (at(h) - at(-h)) / (2 * h), atol=1e-8)
    total = lambda t: jnp.sum(jnp.abs(along(t)) ** 2)
    size = lambda t: np.sum(np.abs(at(t)) ** 2)
    np.testing.assert_allclose(jax.grad(total)(0.0), (size(h) - size(-h)) / (2 * h), atol=1e-8)
    h = 1e-3
    curvature = (size(h) - 2 * size(0) + size(-h)) / h**2
    np.testing.assert_allclose(jax.grad(jax.grad(total))(0.0), curvature, rtol=1e-3)


@pytest.mark.parametrize("is_wide", [False, True], ids=["tall", "wide"])
def test_without_a_penalty_dependent_columns_share_the_least_norm(is_wide):
    rng = np.random.default_rng(0)
    X = draw(rng, 30, 6).astype(np.float32)
    X[:, 5], X[:, 1] = X[:, 0], -2 * X[:, 2]
    X = X.T.copy() if is_wide else X
    y = draw(rng, len(X)).astype(np.float32)
    expected = np.linalg.pinv(X.astype(float), rcond=1e-6) @ y
    np.testing.assert_allclose(_solve(X, y, 0.0), expected, atol=1e-5)
    # it jumps with the matrix, but not with the targets or the penalty
    jacobians = jax.jacobian(_solve, (0, 1, 2))(X, y, 0.0)
    assert jnp.isnan(jacobians[0]).all()
    np.testing.assert_allclose(jacobians[1], np.linalg.pinv(X.astype(float), rcond=1e-6), atol=1e-5)
    h = 1e-3
    slope = (least_squares(X.astype(float), y, h) - expected) / h
    np.testing.assert_allclose(jacobians[2], slope, atol=1e-4 + 0.01 * np.abs(slope).max())


def test_what_is_no_answer_is_no_number():
    X, y = jnp.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]]), jnp.array([1.0, 2.0, 3.0])
    for bad in (jnp.nan, jnp.inf):
        assert jnp.isnan(_solve(X.at[0, 0].set(bad), y, 1.0)).all()
        assert jnp.isnan(_solve(X, y.at[0].set(bad), 1.0)).all()
    for lam in (-1.0, jnp.nan):
        assert jnp.isnan(_solve(X, y, lam)).all()
        assert jnp.isnan(jax.jacfwd(_solve)(X, y, lam)).all()
    np.testing.assert_array_equal(_solve(X, y, jnp.inf), 0)


def test_other_kinds_of_numbers():
    whole = ridge(np.array([[1, 2], [3, 4]]), np.array([1, 2]), 1)
    # (X^T X + I)^-1 X^T y = [[11, 14], [14, 21]]^-1 (7, 10)
    np.testing.assert_allclose(whole, [0.2, 12 / 35], rtol=1e-5)
    mixed = ridge(jnp.array([[2.0]]), jnp.array([2.0j]), 1.0)
    np.testing.assert_allclose(mixed, [0.8j], rtol=1e-6)
    halves = ridge(jnp.ones((2, 1), jnp.bfloat16), jnp.ones((2, 3), jnp.bfloat16), 2.0)
    assert halves.dtype == jnp.bfloat16
    np.testing.assert_array_equal(halves.astype(float), np.full((1, 3), 0.5))
    np.testing.assert_array_equal(ridge(jnp.zeros((3, 2)), jnp.ones(3), 0.0), [0, 0])
    assert ridge(jnp.zeros((0, 2)), jnp.zeros((0, 3)), 1.0).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((jnp.eye(2), jnp.ones(3), 1.0), ValueError, r"ridge needs X .* shapes \(2, 2\) and \(3,"),
        ((jnp.eye(2), jnp.ones(2), -1), ValueError, "ridge needs lam >= 0, got lam=-1"),
        ((jnp.eye(2), jnp.ones(2), jnp.ones(2)), ValueError, r"ridge needs a scalar lam, got sh"),
        ((jnp.eye(2), jnp.ones(2), 1j), TypeError, "ridge needs a real lam, got complex"),
    ],
    ids=["shapes", "negative", "weights", "complex"],
)
def test_bad_arguments_are_refused_in_a_sentence(arguments, error, match):
    with pytest.raises(error, match=match):
        ridge(*arguments)
