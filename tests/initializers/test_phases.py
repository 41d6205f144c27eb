import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from jaxopt_tut.initializers import correlation_map, critical, mean_field, variance_map

# Composite Gauss-Legendre in double precision: smooth activations to 1e-12.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
Z = (np.linspace(-12, 12, 401)[:-1, None] + 0.03 * (1 + NODES[None, :])).ravel()
MASS = np.tile(0.03 * WEIGHTS, 400) * np.exp(-Z * Z / 2) / np.sqrt(2 * np.pi)


def mean(f, q):
    return np.sum(MASS * f(np.sqrt(q) * Z))


def numerical_derivative(f):
    return lambda x: (f(x + 1e-6) - f(x - 1e-6)) / 2e-6


def erf_field(sw2, sb2):
    """Return the mean field of the error function, whose maps are arcsines."""
    variance = lambda q: sw2 * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)) + sb2
    q = brentq(lambda q: variance(q) - q, 1e-9, 1e3, xtol=1e-15, rtol=1e-14)
    ratio = 2 * q / (1 + 2 * q)
    chi = sw2 * 4 / np.pi / np.sqrt(1 + 4 * q)
    slope = lambda c: sw2 * 2 / np.pi * ratio / np.sqrt(1 - (ratio * c) ** 2) / q
    excess = lambda c: (sw2 * 2 / np.pi * np.arcsin(ratio * c) + sb2) / q - c
    c = brentq(excess, 0, 1 - 1e-9, xtol=1e-15) if chi > 1 else 1.0
    return q, chi, c, -1 / np.log(slope(c))


POINTS = np.array([[0.5, 0.1], [1.2, 0.05], [1.0, 1.0], [2.0, 0.05], [4.0, 0.3], [10.0, 0.01]])


def test_the_error_function_has_its_closed_form():
    ours = mean_field(jax.lax.erf, *np.float32(POINTS.T))
    expected = np.array([erf_field(*point) for point in POINTS]).T
    assert set(expected[1] > 1) == {False, True}  # both phases
    # Averages are off by some 5e-7. A fixed point of slope s multiplies that by 1 / (1 - s), and so
    # does the logarithm of s; 1 / (1 - s) is the depth scale, up to 20 here.
    np.testing.assert_allclose(ours.q_star, expected[0], rtol=2e-6)
    np.testing.assert_allclose(ours.chi, expected[1], rtol=2e-6)
    np.testing.assert_allclose(ours.c_star, expected[2], atol=1e-5)
    np.testing.assert_allclose(ours.depth_scale, expected[3], rtol=5e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_error_function_in_double_precision_with_its_derivatives():
    def field(point):
        return jnp.stack(mean_field(jax.lax.erf, point[0], point[1]))

    points = np.array([*POINTS[[0, 4]], [0.5, 0.0]])
    fields, slopes = jax.jit(jax.vmap(lambda p: (field(p), jax.jacfwd(field)(p))))(points)
    # Without bias the signal dies, and the fixed point leaves 0 at the rate 1 / (1 - sw2 slope^2).
    assert fields[2, 0] == 0
    np.testing.assert_allclose(slopes[2, 0], [0, 1 / (1 - 0.5 * 4 / np.pi)], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(fields[:2], [erf_field(*p) for p in points[:2]], rtol=1e-9)
    for i, point in enumerate(points[:2]):
        for j, step in enumerate(np.eye(2) * 1e-5):
            finite = (np.array(erf_field(*(point + step))) - erf_field(*(point - step))) / 2e-5
            # Central differences: step^2 of the third derivative, and 1e-14 / step of rounding.
            np.testing.assert_allclose(slopes[i, :, j], finite, rtol=1e-5, atol=1e-7)


# Ordered, chaotic, critical (weight variance and q* by root finding), and three without bias.
EDGE = (1.7609546396, 0.05, 0.5700478816)
TANH = np.float32([[0.9, 0.1], [2.2, 0.1], EDGE[:2], [0.5, 0.0], [1.0, 0.0], [1.5, 0.0]])


@functools.cache
def tanh_fields():
    return jax.tree.map(np.asarray, mean_field(jnp.tanh, *TANH.T))


def tanh_slope(x):
    return 1 / np.cosh(np.clip(x, -300, 300)) ** 2


def test_fixed_point_and_chi_agree_with_root_finding():
    for i in (0, 1, 5):
        sw2, sb2 = TANH[i].astype(float)
        excess = lambda q: sw2 * mean(lambda x: np.tanh(x) ** 2, q) + sb2 - q  # noqa: B023
        q = brentq(excess, 1e-6, 50)
        np.testing.assert_allclose(tanh_fields().q_star[i], q, rtol=1e-5)
        chi = sw2 * mean(lambda x: tanh_slope(x) ** 2, q)
        np.testing.assert_allclose(tanh_fields().chi[i], chi, rtol=1e-5)


def test_the_field_at_the_edge_of_chaos_is_critical():
    q, chi, c, depth = (x[2] for x in tanh_fields())
    np.testing.assert_allclose(q, EDGE[2], rtol=1e-5)
    # chi is some 1e-6 off; a correlation at that distance from the edge is still close to 1.
    np.testing.assert_allclose(chi, 1, atol=5e-6)
    np.testing.assert_allclose(c, 1, atol=1e-4)
    assert depth > 1e5


def test_odd_activations_without_bias():
    q, chi, c, depth = (x[3:] for x in tanh_fields())
    assert (q[0], q[1]) == (0, 0)
    np.testing.assert_allclose(chi[:2], [0.5, 1], rtol=1e-6)
    # In the chaotic phase inputs become orthogonal; a fixed point of slope 1 - 1/50 multiplies by
    # 50 the rounding of the covariance and of the variance that divides it.
    np.testing.assert_allclose(c, [1, 1, 0], atol=50 * 2 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(depth[0], -1 / np.log(0.5), rtol=1e-5)
    assert depth[1] == np.inf
    assert 40 < depth[2] < 70


@jax.jit
def tanh_correlations(c, q, sw2, sb2):
    step = lambda c: correlation_map(jnp.tanh, c, q, sw2, sb2)
    return jax.lax.scan(lambda c, _: (step(c), c), c, length=100)[1]


def test_arrays_of_one_point_come_back_by_name():
    field = mean_field(jnp.tanh, jnp.array([1.5]), jnp.array([[0.1]]))
    alone = mean_field(jnp.tanh, 1.5, 0.1)
    edge = critical(jnp.tanh, jnp.array([0.1]))
    assert field.depth_scale.shape == (1, 1)
    assert edge.weight_variance.shape == (1,)
    # a batch may sum in another order than a single point: some roundings
    np.testing.assert_allclose(field.q_star.item(), alone.q_star, rtol=1e-5)


@pytest.mark.parametrize("i", [0, 1], ids=["ordered", "chaotic"])
def test_correlations_approach_c_star_within_the_depth_scale(i):
    q, _, c_star, depth = (float(x[i]) for x in tanh_fields())
    distance = np.abs(np.asarray(tanh_correlations(c_star - 0.2, q, *TANH[i])) - c_star)
    # The rate is reached up to a share of the distance itself: measure where that is small, and
    # still a thousand roundings away.
    late = (distance < 0.02) & (distance > 1e-4)
    assert late.sum() > 5
    rate = np.diff(np.log(distance[late])).mean()
    np.testing.assert_allclose(-1 / rate, depth, rtol=0.05)


@pytest.mark.slow
def test_relu_has_its_closed_form_and_limits():
    #              ordered     dies  bounded  all q  grows  grows slowly
    sw2 = np.float32([1.5, 1.0, 1.0, 2.0, 3.0, 2.0])
    sb2 = np.float32([0.2, 0.0, 0.3, 0.0, 0.0, 0.1])
    q, chi, c, depth = mean_field(jax.nn.relu, sw2, sb2)
    np.testing.assert_allclose(q, [0.8, 0, 0.6, 1, np.inf, np.inf], rtol=2e-6)
    np.testing.assert_allclose(chi, sw2 / 2, rtol=2e-6)
    np.testing.assert_array_equal(c, 1)
    expected = [-1 / np.log(0.75), *[-1 / np.log(0.5)] * 2, np.inf, np.inf, np.inf]
    np.testing.assert_allclose(depth, expected, rtol=1e-5)


def test_the_critical_point_agrees_with_root_finding():
    biases = np.array([0.0, 0.05, 0.3])
    ours = critical(jnp.tanh, np.float32(biases))
    assert ours.q_star[0] == 0
    np.testing.assert_allclose(ours.weight_variance[0], 1, rtol=2e-6)
    value, slope = (lambda x: np.tanh(x) ** 2), (lambda x: tanh_slope(x) ** 2)
    np.testing.assert_allclose([ours.weight_variance[1], ours.q_star[1]], EDGE[::2], rtol=1e-5)
    for i, sb2 in enumerate(biases[1:], start=1):
        q = brentq(lambda q: mean(value, q) / mean(slope, q) + sb2 - q, 1e-2, 100)  # noqa: B023
        np.testing.assert_allclose(ours.q_star[i], q, rtol=1e-5)
        np.testing.assert_allclose(ours.weight_variance[i], 1 / mean(slope, q), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_swish_has_its_published_critical_point():
    # Roberts, Yaida, Hanin (2022), The Principles of Deep Learning Theory, section 5.3.4.
    point = critical(jax.nn.silu, 0.55514317)
    np.testing.assert_allclose(point.weight_variance, 1.98800468, rtol=1e-8)
    np.testing.assert_allclose(point.q_star, 14.32017362, rtol=1e-8)


def test_the_critical_point_of_relu_has_any_variance_or_none():
    relu = critical(jax.nn.relu, np.float32([0.0, 0.1]))
    np.testing.assert_allclose(relu.weight_variance, 2, rtol=2e-6)
    np.testing.assert_array_equal(relu.q_star, [1, np.inf])


@pytest.mark.usefixtures("x64")
def test_the_critical_line_of_erf_is_differentiable():
    # chi = 1 and q = V(q) in closed form: a curve (sw2, sb2) in the parameter q.
    line = lambda q: np.pi / 4 * np.sqrt(1 + 4 * q)
    bias = lambda q: q - line(q) * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q))
    q = 0.8
    sw2 = lambda sb2: critical(jax.lax.erf, sb2).weight_variance
    value, slope = jax.jit(jax.value_and_grad(sw2))(bias(q))
    np.testing.assert_allclose(value, line(q), rtol=1e-9)
    derivative = numerical_derivative(line)(q) / numerical_derivative(bias)(q)
    np.testing.assert_allclose(slope, derivative, rtol=1e-7)


@pytest.mark.parametrize("wrong", [-1.0, jnp.nan, jnp.inf])
def test_a_traced_variance_that_is_none_gives_nan(wrong):
    wrong = jnp.array(wrong)
    found = [
        *_mean_field_of_tanh(wrong, 0.1),
        *_mean_field_of_tanh(1.5, wrong),
        *jax.jit(lambda sb2: critical(jnp.tanh, sb2))(wrong),
        variance_map(jnp.tanh, wrong, 1.5, 0.1),
        correlation_map(jnp.tanh, 0.5, wrong, 1.5, 0.1),
        correlation_map(jnp.tanh, wrong - 1, 1.0, 1.5, 0.1),
    ]
    np.testing.assert_array_equal(found, jnp.nan)


_mean_field_of_tanh = jax.jit(lambda sw2, sb2: mean_field(jnp.tanh, sw2, sb2))


def test_a_traced_bias_without_critical_point_gives_nan():
    assert np.isnan(jax.jit(lambda sb2: critical(jnp.square, sb2))(0.0).weight_variance)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: mean_field(jnp.tanh, -1.0, 0.1),
            ValueError,
            "mean_field needs a finite weight_variance >= 0, got weight_variance=-1.0.",
        ),
        (
            lambda: mean_field(jnp.tanh, 1.0, np.nan),
            ValueError,
            "mean_field needs a finite bias_variance >= 0, got bias_variance=nan.",
        ),
        (
            lambda: mean_field(jax.nn.softmax, 1.0, 0.1),
            ValueError,
            "mean_field needs an elementwise activation, got softmax, which mixes the entries.",
        ),
        (
            lambda: critical(jnp.tanh, -0.1),
            ValueError,
            "critical needs a finite bias_variance >= 0, got bias_variance=-0.1.",
        ),
        (
            lambda: critical("tanh", 0.1),
            TypeError,
            "critical needs a callable activation, got 'tanh'.",
        ),
        (
            lambda: critical(jnp.sign, 0.1),
            ValueError,
            "critical needs an activation with a weight variance where chi = 1, "
            "got sign, which has none at bias_variance=0.1.",
        ),
    ],
    ids=["weights", "bias", "softmax", "critical bias", "string", "step"],
)
def test_bad_input_is_refused_with_a_sentence(call, error, sentence):
    with pytest.raises(error, match=rf"^{re.escape(sentence)}$"):
        call()
