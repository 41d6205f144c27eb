"""Norms, their duals, and the directions that attain them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.linalg.polar import newton_schulz
from jaxopt_tut.optimizers import norms, sgd, steepest_descent
from jaxopt_tut.optimizers.norms import L1, L2, LInf, Spectral

NEWTON_SCHULZ = Spectral(num_steps=8)
TABLE = [L1(), L2(), LInf(), Spectral(), NEWTON_SCHULZ]
NORMS = pytest.mark.parametrize("norm", TABLE, ids=repr)
SHAPES = pytest.mark.parametrize("shape", [(), (4,), (3, 5), (3, 3, 2, 4)], ids=str)


def test_the_table_has_every_norm():
    listed = {name for name in norms.__all__ if name != "Norm"}
    assert {type(norm).__name__ for norm in TABLE} == listed


@NORMS
@SHAPES
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_the_decrease_along_the_steepest_direction_is_the_dual_norm(norm, shape, dtype):
    g = jax.random.normal(jax.random.key(0), shape, dtype)
    d = norm.steepest(g)
    eps = 100 * jnp.finfo(dtype).eps  # sums of some 70 terms, and a decomposition
    np.testing.assert_allclose(norm.norm(d), 1, rtol=1e-4 if norm == NEWTON_SCHULZ else float(eps))
    inner = jnp.real(jnp.sum(jnp.conj(d) * g))
    np.testing.assert_allclose(inner, norm.dual_norm(g), rtol=float(eps))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([L1(), L2(), LInf(), Spectral()]))
def test_no_direction_of_unit_norm_falls_faster(seed, norm):
    key_g, key_x = jax.random.split(jax.random.key(seed))
    g = jax.random.normal(key_g, (3, 4))
    x = jax.random.normal(key_x, (3, 4))
    assert jnp.sum(g * x) <= norm.norm(x) * norm.dual_norm(g) * (1 + 1e-5)


@pytest.mark.slow
@NORMS
def test_a_zero_gradient_moves_nothing_and_has_finite_derivatives(norm):
    zero = jnp.zeros((2, 3))
    np.testing.assert_array_equal(norm.steepest(zero), 0)
    total = lambda g: jnp.sum(norm.dual_norm(g) * norm.steepest(g) + norm.norm(g))
    assert jnp.all(jnp.isfinite(jax.grad(total)(zero)))


@pytest.mark.slow
def test_spectral_directions_have_singular_values_one_and_treat_kernels_as_patches():
    g = jax.random.normal(jax.random.key(4), (3, 3, 2, 5))
    d = Spectral().steepest(g).reshape(18, 5)
    np.testing.assert_allclose(jnp.linalg.svd(d, compute_uv=False), 1, atol=1e-5)
    ill = jnp.diag(jnp.array([1.0, 1e-2, 1e-4]))
    np.testing.assert_allclose(Spectral().steepest(ill), jnp.eye(3), atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (3, 3, 2, 5)], ids=str)
def test_newton_schulz_brings_singular_values_within_the_band(shape):
    """Down to 1e-3 of the Frobenius norm, as the docstring says; and the exact direction."""
    columns = shape[-1]
    rows = int(np.prod(shape[:-1]))
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(rows, columns)))
    v, _ = np.linalg.qr(rng.normal(size=(columns, columns)))
    sigma = np.geomspace(2e-3, 1.0, columns)
    g = jnp.array(((u * sigma) @ v.T).reshape(shape), jnp.float32)
    assert sigma.min() > 1e-3 * np.linalg.norm(sigma)
    d = NEWTON_SCHULZ.steepest(g)
    values = np.linalg.svd(np.reshape(d, (rows, columns)), compute_uv=False)
    # rounding of the products, as large as eps times the growth 2000 of the smallest
    np.testing.assert_allclose(values, 1, atol=1e-4 + 2000 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(d, (u @ v.T).reshape(shape), atol=2e-3)
    np.testing.assert_allclose(NEWTON_SCHULZ.dual_norm(g), sigma.sum(), rtol=2e-4)
    tiny = 1e-30 * g
    np.testing.assert_allclose(NEWTON_SCHULZ.steepest(tiny), d, atol=2e-3)


def test_newton_schulz_leaves_small_singular_values_below_one_and_needs_four_steps():
    d = jnp.diag(NEWTON_SCHULZ.steepest(jnp.diag(jnp.array([1.0, 1e-5, 0.0]))))
    np.testing.assert_allclose(d[0], 1, atol=1e-4)
    assert 0 < d[1] <= 3200e-5
    assert d[2] == 0
    with pytest.raises(ValueError, match=r"Spectral needs num_steps >= 4, got num_steps=3\."):
        Spectral(num_steps=3)
    with pytest.raises(ValueError, match=r"newton_schulz needs num_steps >= 4, got num_steps=3\."):
        newton_schulz(jnp.eye(2), 3)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_derivative_of_newton_schulz_is_that_of_finite_differences():
    g, dg = jax.random.normal(jax.random.key(5), (2, 3, 2))
    _, tangent = jax.jvp(NEWTON_SCHULZ.steepest, (g,), (dg,))
    h = 1e-6
    central = (NEWTON_SCHULZ.steepest(g + h * dg) - NEWTON_SCHULZ.steepest(g - h * dg)) / (2 * h)
    np.testing.assert_allclose(tangent, central, atol=1e-7)  # truncation h^2, rounding eps / h


def test_l2_norms_neither_overflow_nor_underflow():
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(L2().norm(scale * jnp.array([3.0, 4.0])) / scale, 5, rtol=1e-5)


def test_under_l2_it_is_gradient_descent():
    g = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[3.0]])}
    ours, theirs = steepest_descent(0.1), sgd(0.1)
    update = ours.update(g, ours.init(g))[0]
    expected = theirs.update(g, theirs.init(g))[0]
    for a, b in zip(jax.tree.leaves(update), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_each_leaf_has_the_norm_of_the_first_pattern_that_matches():
    g = {"dense": {"kernel": jnp.array([[0.0, 2.0], [1.0, 0.0]]), "bias": jnp.array([-3.0, 1.0])}}
    rules = {"*/kernel": Spectral(), "*": L1()}
    optimizer = steepest_descent(1.0, norm=rules, scale_by_dual_norm=False)
    update = optimizer.update(g, optimizer.init(g))[0]["dense"]
    np.testing.assert_allclose(update["kernel"], [[0.0, -1.0], [-1.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(update["bias"], [1.0, 0.0])
    with pytest.raises(
        ValueError, match="steepest_descent needs a norm for each leaf, got none of"
    ):
        steepest_descent(1.0, norm={"*/kernel": L2()}).init(g)
    named = {"['w'][0]": jnp.array([-3.0, 1.0]), "w0": jnp.array([-3.0, 1.0])}
    optimizer = steepest_descent(
        1.0, norm={"['w'][0]": L1(), "*": LInf()}, scale_by_dual_norm=False
    )
    update = optimizer.update(named, optimizer.init(named))[0]
    assert {name: leaf.tolist() for name, leaf in update.items()} == {
        "['w'][0]": [1.0, 0.0],
        "w0": [1.0, -1.0],
    }
    with pytest.raises(TypeError, match=r"steepest_descent needs norms as in optimizers\.norms"):
        steepest_descent(1.0, norm="spectral")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["L1", "L2", "LInf", "Spectral"])
def test_a_norm_that_was_not_called_is_told_to_be(name):
    kind = getattr(norms, name)
    for norm in (kind, {"*": kind}):
        with pytest.raises(TypeError, match=rf"^steepest_descent needs .*call it, {name}\(\)"):
            steepest_descent(0.1, norm=norm)
