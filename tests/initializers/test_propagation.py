import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from jaxopt_tut.initializers import correlation_map, kaiming_normal, variance_map

# Correlations from -1 to 1, crowded near 1.
CORRELATIONS = np.concatenate([np.linspace(-1, 0.9, 20), 1 - np.logspace(-1, -6, 21), [1.0]])


def relu_kernel(c):
    """Cho and Saul (2009), eq. 6, normalised."""
    return (np.sqrt(1 - c * c) + (np.pi - np.arccos(c)) * c) / np.pi


def erf_kernel(c, q=1.3):
    """Williams (1997), eq. 11."""
    return np.arcsin(2 * q * c / (1 + 2 * q)) / np.arcsin(2 * q / (1 + 2 * q))


def sin_kernel(c, q=1.3):
    return np.sinh(q * c) / np.sinh(q)


def gauss_hermite(f, num=80):
    """Average f(z1, z2) over independent normals, for smooth f."""
    z, w = np.polynomial.hermite_e.hermegauss(num)
    w = w / w.sum()
    return w @ f(z[:, None], z[None, :]) @ w


def softplus_kernel(c, q=1.3):
    f = lambda z: np.logaddexp(0, np.sqrt(q) * z)
    covariance = gauss_hermite(lambda a, b: f(a) * f(c * a + np.sqrt(1 - c * c) * b))
    return covariance / gauss_hermite(lambda a, b: f(a) ** 2 + 0 * b)


# The tolerance of a kink is that of the powers beyond 256: their mass is some 2e-4 of the whole,
# and one power with their mean stands for them. Smooth functions have none.
KERNELS = {
    "relu": (jax.nn.relu, relu_kernel, 8e-6),
    "erf": (jax.lax.erf, erf_kernel, 1e-6),
    "sin": (jnp.sin, sin_kernel, 1e-6),
    "softplus": (jax.nn.softplus, np.vectorize(softplus_kernel), 1e-6),
}


@pytest.mark.parametrize("name", KERNELS)
def test_correlations_follow_the_kernel_of_the_activation(name):
    activation, kernel, tolerance = KERNELS[name]
    ours = correlation_map(activation, CORRELATIONS.astype(np.float32), 1.3, 2.0, 0.0)
    np.testing.assert_allclose(ours, kernel(CORRELATIONS), atol=tolerance)


@pytest.mark.usefixtures("x64")
def test_correlations_and_their_slopes_are_exact_in_double_precision():
    c = np.array([-1, -0.4, 0.0, 0.5, 0.999, 1])
    ours = jax.jit(
        jax.vmap(jax.value_and_grad(lambda c: correlation_map(jnp.sin, c, 1.3, 1.0, 0.0)))
    )
    values, slopes = ours(c)
    assert values.dtype == jnp.float64
    np.testing.assert_allclose(values, sin_kernel(c), atol=1e-12)
    np.testing.assert_allclose(slopes, 1.3 * np.cosh(1.3 * c) / np.sinh(1.3), rtol=1e-9)


def test_kinks_off_the_grid_keep_the_ends_exact():
    # clip(x, -a, b): E phi(u) phi(-u) and the variance by direct integration.
    low, high = -0.7123, 1.2345
    z = (np.arange(400_000) + 0.5) / 200_000 * 8 - 8
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * 8 / 200_000
    phi = np.clip(z, low, high)
    crossed, straight = np.sum(density * phi * phi[::-1]), np.sum(density * phi * phi)
    ends = correlation_map(lambda x: jnp.clip(x, low, high), np.float32([-1, 1]), 1.0, 1.0, 0.0)
    np.testing.assert_allclose(ends, [crossed / straight, 1], atol=1e-6)


relu_map = jax.jit(lambda c, sb2: correlation_map(jax.nn.relu, c, 1.0, 2.0, sb2))


def test_weights_and_biases_mix_into_the_correlation():
    # 2 E[relu^2] = 1 at unit variance.
    expected = (relu_kernel(0.4) + 0.5) / 1.5
    np.testing.assert_allclose(relu_map(0.4, 0.5), expected, atol=KERNELS["relu"][2])


@settings(deadline=None, max_examples=30)
@given(low=st.floats(-1, 1), high=st.floats(-1, 1), sb2=st.floats(0, 10))
def test_the_map_grows_with_the_correlation_and_stays_in_range(low, high, sb2):
    low, high = min(low, high), max(low, high)
    below, above = float(relu_map(low, sb2)), float(relu_map(high, sb2))
    slack = 4e-6  # rounding of 256 terms, half the tolerance of the kernel above
    assert -slack <= below <= above + slack <= 1 + 2 * slack


@pytest.mark.parametrize(
    ("activation", "moment"),
    [
        (jax.nn.relu, lambda q: q / 2),
        (lambda x: x, lambda q: q),
        (jax.lax.erf, lambda q: 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q))),
        (jnp.sin, lambda q: (1 - np.exp(-2 * q)) / 2),
        (jnp.exp, lambda q: np.exp(2 * q)),
        (
            lambda x: jnp.clip(x, -1, 1),
            lambda q: (
                q * (special.erf(1 / np.sqrt(2 * q)) - np.sqrt(2 / np.pi / q) * np.exp(-0.5 / q))
                + special.erfc(1 / np.sqrt(2 * q))
            ),
        ),
    ],
    ids=["relu", "identity", "erf", "sin", "exp", "hard_tanh"],
)
def test_variances_follow_closed_forms(activation, moment):
    q = np.array([[1e-3, 0.2], [1.0, 9.0]])
    ours = jax.jit(lambda q, sw2: variance_map(activation, q, sw2, 0.1))(
        q.astype(np.float32), np.float32([[1.5, 3.0]])
    )
    assert ours.shape == (2, 2)
    np.testing.assert_allclose(ours, np.array([1.5, 3.0]) * moment(q) + 0.1, rtol=2e-6)


@pytest.mark.usefixtures("x64")
def test_the_derivative_of_the_variance_is_exact():
    # d/dq of the erf's moment: (2 / pi) d asin(2 q / (1 + 2 q)).
    slope = jax.jit(jax.grad(lambda q: variance_map(jax.lax.erf, q, 1.0, 0.0)))(0.7)
    ratio = 1.4 / 2.4
    exact = 2 / np.pi * 2 / 2.4**2 / np.sqrt(1 - ratio**2)
    np.testing.assert_allclose(slope, exact, rtol=1e-9)


@pytest.mark.slow
def test_a_wide_random_layer_does_what_the_maps_say():
    # Means over keys have no bias at any width; 4 standard errors of 200 layers.
    c, sb2, width, num_keys = 0.6, 0.3, 128, 200

    def layer(key):
        key_u, key_v, key_weight, key_bias = jax.random.split(key, 4)
        u = jax.random.normal(key_u, (width,))
        v = c * u + (1 - c * c) ** 0.5 * jax.random.normal(key_v, (width,))
        weight = kaiming_normal()(key_weight, (width, width))
        bias = jax.random.normal(key_bias, (width,)) * sb2**0.5
        outs = jax.nn.relu(jnp.stack([u, v])) @ weight + bias[None, :]
        return (outs[0] ** 2).mean(), outs.prod(axis=0).mean()

    keys = jax.random.split(jax.random.key(0, impl="rbg"), num_keys)  # quick to compile
    squares, products = map(np.asarray, jax.jit(jax.vmap(layer))(keys))
    variance = float(variance_map(jax.nn.relu, 1.0, 2.0, sb2))
    for sample, expected in ((squares, variance), (products, variance * relu_map(c, sb2))):
        assert abs(sample.mean() - expected) < 4 * sample.std() / np.sqrt(num_keys)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: variance_map(jnp.tanh, -1.0, 1.0, 0.0),
            ValueError,
            "variance_map needs a finite variance >= 0, got variance=-1.0.",
        ),
        (
            lambda: variance_map(jnp.tanh, 1.0, -1.0, 0.0),
            ValueError,
            "variance_map needs a finite weight_variance >= 0, got weight_variance=-1.0.",
        ),
        (
            lambda: variance_map("tanh", 1.0, 1.0, 0.0),
            TypeError,
            "variance_map needs a callable activation, got 'tanh'.",
        ),
        (
            lambda: correlation_map(jnp.tanh, 1.5, 1.0, 1.0, 0.0),
            ValueError,
            "correlation_map needs -1 <= correlation <= 1, got correlation=1.5.",
        ),
        (
            lambda: correlation_map(jnp.tanh, 0.5, 1.0, 1.0, -0.1),
            ValueError,
            "correlation_map needs a finite bias_variance >= 0, got bias_variance=-0.1.",
        ),
        (
            lambda: correlation_map(jnp.tanh, "0.5", 1.0, 1.0, 0.0),
            TypeError,
            "correlation_map needs a real number as correlation, got correlation='0.5'.",
        ),
    ],
    ids=["variance", "weights", "activation", "correlation", "bias", "string"],
)
def test_bad_input_is_refused_with_a_sentence(call, error, sentence):
    with pytest.raises(error, match=rf"^{re.escape(sentence)}$"):
        call()
