import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.initializers import delta_orthogonal, orthogonal

EPS = np.finfo(np.float32).eps


def quick_key(seed):
    """Return a key whose programs compile several times faster than the default's."""
    return jax.random.key(seed, impl="rbg")


def gram_of_the_short_side(matrix):
    matrix = np.asarray(matrix)
    rows, columns = matrix.shape
    return matrix.conj().T @ matrix if rows >= columns else matrix @ matrix.conj().T


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((7, 4), "float32"),
        ((4, 7), "float32"),
        ((3, 3, 2, 8), "float32"),
        ((1, 6), "float32"),
        ((4, 7), "complex64"),
    ],
    ids=str,
)
def test_the_flattened_kernel_is_semi_orthogonal(shape, dtype):
    kernel = orthogonal(1.5)(quick_key(0), shape, jnp.dtype(dtype))
    gram = gram_of_the_short_side(kernel.reshape(-1, shape[-1]))
    # Householder QR is orthogonal to a small multiple of size * eps.
    np.testing.assert_allclose(gram, 2.25 * np.eye(len(gram)), atol=2.25 * 18 * EPS)


@pytest.mark.usefixtures("x64")
def test_is_orthogonal_to_double_precision():
    kernel = orthogonal()(quick_key(0), (9, 9), jnp.float64)
    gram = gram_of_the_short_side(kernel)
    np.testing.assert_allclose(gram, np.eye(9), atol=9 * np.finfo(float).eps)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_square_matrices_follow_the_haar_measure(dtype):
    # On O(n) and U(n): E tr = 0, E |tr|^2 = 1, E |w_11|^2 = 1/n. QR without the phases of R's
    # diagonal has another law: LAPACK's reflections make E tr clearly not 0.
    num, n = 4000, 5
    keys = jax.random.split(quick_key(1), num)
    draws = jax.vmap(lambda key: orthogonal()(key, (n, n), jnp.dtype(dtype)))(keys)
    trace = np.asarray(jnp.trace(draws, axis1=1, axis2=2))
    assert abs(trace.mean()) < 4 / np.sqrt(num)
    for sample, mean in ((np.abs(trace) ** 2, 1), (np.abs(np.asarray(draws[:, 0, 0])) ** 2, 1 / n)):
        assert abs(sample.mean() - mean) < 4 * sample.std() / np.sqrt(num)


@pytest.mark.parametrize(
    ("window", "layout"),
    [((3,), "NWC"), ((3, 3), "NHWC"), ((2, 4), "NHWC")],
    ids=str,
)
def test_delta_orthogonal_convolutions_keep_every_norm(window, layout):
    key_kernel, key_x = jax.random.split(quick_key(3))
    kernel = delta_orthogonal()(key_kernel, (*window, 3, 5))
    x = jax.random.normal(key_x, (2, *(6 for _ in window), 3))
    rhs = layout[1:-1] + "IO"
    y = jax.lax.conv_general_dilated(
        x, kernel, [1] * len(window), "SAME", dimension_numbers=(layout, rhs, layout)
    )
    axes = tuple(range(1, x.ndim))
    np.testing.assert_allclose(
        jnp.sqrt((y**2).sum(axes)), jnp.sqrt((x**2).sum(axes)), rtol=50 * EPS
    )


def test_delta_orthogonal_has_one_tap():
    kernel = np.array(delta_orthogonal(2.0)(quick_key(4), (3, 3, 4, 6)))
    np.testing.assert_allclose(kernel[1, 1] @ kernel[1, 1].T, 4 * np.eye(4), atol=100 * EPS)
    kernel[1, 1] = 0
    assert not kernel.any()


@pytest.mark.parametrize(
    ("init", "shape", "sentence"),
    [
        (orthogonal(), (4,), "orthogonal needs a shape of rank >= 2, got shape (4,)."),
        (orthogonal(), (0, 4), "orthogonal needs a shape without empty axes, got shape (0, 4)."),
        (
            orthogonal(),
            (-1, 4),
            "orthogonal needs a shape without negative sizes, got shape (-1, 4).",
        ),
        (
            delta_orthogonal(),
            (4, 4),
            "delta_orthogonal needs a shape of rank >= 3, got shape (4, 4).",
        ),
        (
            delta_orthogonal(),
            (3, 0, 4),
            "delta_orthogonal needs a shape without empty axes, got shape (3, 0, 4).",
        ),
        (
            delta_orthogonal(),
            (3, 3, 8, 4),
            "delta_orthogonal needs at least as many output as input channels, "
            "got 8 -> 4 for shape (3, 3, 8, 4).",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_shapes_are_refused_with_a_sentence(init, shape, sentence):
    with pytest.raises(ValueError, match=rf"^{re.escape(sentence)}$"):
        init(quick_key(0), shape)


@pytest.mark.parametrize("make", [orthogonal, delta_orthogonal])
def test_a_scale_must_be_one_real_number(make):
    with pytest.raises(
        TypeError, match=rf"{make.__name__} needs a real number as scale, got scale="
    ):
        make("one")
    with pytest.raises(
        ValueError, match=rf"{make.__name__} needs a scalar scale, got shape \(2,\)"
    ):
        make(jnp.ones(2))


@pytest.mark.parametrize("make", [orthogonal, delta_orthogonal])
@pytest.mark.parametrize("scale", [float("nan"), float("inf"), np.float32(-np.inf)])
def test_a_scale_that_is_not_finite_is_refused(make, scale):
    with pytest.raises(ValueError, match=rf"{make.__name__} needs a finite scale, got scale="):
        make(scale)
