import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxopt_tut.initializers.quadrature import gaussian_rule, resolve, value_and_slope

STANDARD = resolve("test", jnp.tanh, slopes=True).edges


@pytest.mark.parametrize("place", [0.3337, -1.9, 1e-3, 7.77, 41.3])
def test_finds_kinks_wherever_they_are(place):
    panels = resolve("test", lambda x: jnp.abs(x - place), slopes=True)
    # The criterion stops at a panel of width w where w / (1 + x^2) is some 1e-5.
    nearest = np.abs(panels.edges - place).min()
    assert nearest < 3e-5 * (1 + place**2)


def test_finds_jumps_without_looking_at_slopes():
    panels = resolve("test", lambda x: jnp.where(x > 0.777, 1.0, 0.0), slopes=False)
    assert np.abs(panels.edges - 0.777).min() < 3e-5


def test_smooth_functions_keep_the_standard_panels():
    assert len(STANDARD) == 31
    np.testing.assert_array_equal(resolve("test", jax.nn.silu, slopes=True).edges, STANDARD)


def test_panels_integrate_polynomials_of_degree_15_exactly():
    panels = resolve("test", lambda x: x, slopes=True)
    inside = np.abs(panels.nodes) < 3
    integral = np.sum((panels.weights * panels.nodes**14)[inside])
    np.testing.assert_allclose(integral, 2 * 3**15 / 15, rtol=1e-13)
    np.testing.assert_allclose(panels.values[0], panels.nodes, rtol=1e-7)  # single precision
    np.testing.assert_array_equal(panels.values[1], 1)


def test_a_function_is_evaluated_few_times_and_always_at_one_shape():
    shapes = []

    def activation(x):
        shapes.append(x.shape)
        return jnp.maximum(x - 0.3337, 0)

    resolve("test", activation, slopes=True)
    # 3 for the checks, one of them at another shape, 1 for the panels, then log_16 of the precision
    # in rounds of splitting.
    assert len(shapes) <= 10
    assert len([shape for shape in shapes if shape != shapes[0]]) == 1


def test_rough_functions_end_too():
    noise = resolve("test", lambda x: jnp.sin(1e6 * x), slopes=True)
    assert len(noise.edges) < 30_000


@pytest.mark.parametrize("variance", [1e-8, 0.3, 1.0, 400.0])
def test_gaussian_moments_are_exact(variance):
    rule = gaussian_rule(jnp.float32(variance), STANDARD)
    for power, moment in ((0, 1), (2, 1), (4, 3), (8, 105)):
        value = jnp.sum(rule.width * (rule.z ** (power // 2) * rule.density) ** 2)
        # Some 1300 roundings, half of them up: a few sqrt(1300) / 1300 of them survive.
        np.testing.assert_allclose(value, moment, rtol=8 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(rule.x, np.sqrt(variance) * rule.z, rtol=3e-7)


@pytest.mark.usefixtures("x64")
def test_derivatives_in_the_variance_see_the_jumps():
    # E[1(|x| < 1)] = erf(1 / sqrt(2 q)), although the integrand has no slope anywhere.
    edges = resolve("test", lambda x: jnp.clip(x, -1, 1), slopes=True).edges

    def inside(q):
        rule = gaussian_rule(q, edges)
        return jnp.sum(rule.width * jnp.where(jnp.abs(rule.x) < 1, rule.density, 0) ** 2)

    value, slope = jax.jit(jax.value_and_grad(inside))(2.0)
    np.testing.assert_allclose(value, special.erf(0.5), rtol=1e-12)
    np.testing.assert_allclose(slope, -np.exp(-0.25) / np.sqrt(np.pi) / 4, rtol=1e-12)


def test_slopes_of_functions_with_only_a_custom_vjp():
    @jax.custom_vjp
    def straight_through(x):
        return jnp.sign(x)

    straight_through.defvjp(lambda x: (jnp.sign(x), None), lambda _, g: (2 * g,))
    value, slope = value_and_slope(straight_through, jnp.array([-1.0, 3.0]))
    assert (value.tolist(), slope.tolist()) == ([-1, 1], [2, 2])


@pytest.mark.parametrize(
    ("activation", "error", "sentence"),
    [
        ("relu", TypeError, "gain needs a callable activation, got 'relu'."),
        (
            lambda x: x[:2],
            ValueError,
            "gain needs an activation that keeps the shape, "
            "got <lambda>, which maps (8192,) to (2,).",
        ),
        (
            lambda x: x > 0,
            TypeError,
            "gain needs an activation with floating values, "
            "got <lambda>, which maps float32 to bool.",
        ),
        (
            lambda x: jax.lax.complex(x, x),
            TypeError,
            "gain needs an activation with floating values, "
            "got <lambda>, which maps float32 to complex64.",
        ),
        (
            jax.nn.softmax,
            ValueError,
            "gain needs an elementwise activation, got softmax, which mixes the entries.",
        ),
        (
            jax.nn.standardize,
            ValueError,
            "gain needs an elementwise activation, got standardize, which mixes the entries.",
        ),
    ],
    ids=["string", "shape", "bool", "complex", "softmax", "standardize"],
)
def test_what_is_no_activation_is_refused_with_a_sentence(activation, error, sentence):
    with pytest.raises(error, match=rf"^{re.escape(sentence)}$"):
        resolve("gain", activation, slopes=False)
