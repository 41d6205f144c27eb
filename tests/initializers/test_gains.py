import re
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy.integrate import quad

from jaxopt_tut.initializers import gain, kaiming_normal

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805  # of SELU


def sigmoid(x):
    return special.expit(x)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def mish_slope(x):
    t = np.tanh(np.logaddexp(0, x))
    return t + x * (1 - t * t) * sigmoid(x)


def gelu_tanh_slope(x):
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner


# Activation in JAX; value and slope written anew in double precision; where they are not smooth.
CASES = {
    "identity": (lambda x: x, lambda x: x, np.ones_like, []),
    "relu": (jax.nn.relu, lambda x: max(x, 0.0), lambda x: float(x > 0), [0]),
    "leaky_relu": (
        jax.nn.leaky_relu,
        lambda x: x if x > 0 else 0.01 * x,
        lambda x: 1.0 if x > 0 else 0.01,
        [0],
    ),
    "relu6": (jax.nn.relu6, lambda x: min(max(x, 0.0), 6.0), lambda x: float(0 < x < 6), [0, 6]),
    "hard_tanh": (
        jax.nn.hard_tanh,
        lambda x: np.clip(x, -1, 1),
        lambda x: float(-1 < x < 1),
        [-1, 1],
    ),
    "hard_sigmoid": (
        jax.nn.hard_sigmoid,
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
        lambda x: float(-3 < x < 3) / 6,
        [-3, 3],
    ),
    "abs": (jnp.abs, abs, np.sign, [0]),
    "elu": (
        jax.nn.elu,
        lambda x: x if x > 0 else np.expm1(x),
        lambda x: 1.0 if x > 0 else np.exp(x),
        [0],
    ),
    "selu": (
        jax.nn.selu,
        lambda x: SCALE * (x if x > 0 else ALPHA * np.expm1(x)),
        lambda x: SCALE * (1.0 if x > 0 else ALPHA * np.exp(x)),
        [0],
    ),
    "gelu": (jax.nn.gelu, gelu_tanh, gelu_tanh_slope, []),
    "silu": (
        jax.nn.silu,
        lambda x: x * sigmoid(x),
        lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
        [],
    ),
    "tanh": (jnp.tanh, np.tanh, lambda x: 1 / np.cosh(x) ** 2, []),
    "sigmoid": (jax.nn.sigmoid, sigmoid, lambda x: sigmoid(x) * sigmoid(-x), []),
    "softplus": (jax.nn.softplus, lambda x: np.logaddexp(0, x), sigmoid, []),
    "mish": (jax.nn.mish, lambda x: x * np.tanh(np.logaddexp(0, x)), mish_slope, []),
    "sin": (jnp.sin, np.sin, np.cos, []),
    "exp": (jnp.exp, np.exp, np.exp, []),
    "shifted relu": (
        lambda x: jax.nn.relu(x - 0.3337),
        lambda x: max(x - 0.3337, 0.0),
        lambda x: float(x > 0.3337),
        [0.3337],
    ),
    "shifted clip": (
        lambda x: jnp.clip(x, -0.7123, 1.2345),
        lambda x: np.clip(x, -0.7123, 1.2345),
        lambda x: float(-0.7123 < x < 1.2345),
        [-0.7123, 1.2345],
    ),
    "jump": (
        lambda x: jnp.where(x > 0.777, 1 + x, -0.2 * x),
        lambda x: 1 + x if x > 0.777 else -0.2 * x,
        lambda x: 1.0 if x > 0.777 else -0.2,
        [0.777],
    ),
    "steep tanh": (
        lambda x: jnp.tanh(50 * (x - 0.123)),
        lambda x: np.tanh(50 * (x - 0.123)),
        lambda x: 50 / np.cosh(min(abs(50 * (x - 0.123)), 300)) ** 2,
        [0.023, 0.123, 0.223],
    ),
}


def oracle(value, slope, kinks, mode):
    """Integrate piece by piece with scipy, in double precision."""
    f = slope if mode == "backward" else value
    ends = np.unique([-16.0, -6, -3, -1, 1, 3, 6, 16.0, *kinks])

    def mean(g):
        density = lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        return sum(
            quad(lambda x: g(x) * density(x), a, b, epsabs=1e-11, epsrel=1e-10)[0]
            for a, b in pairwise(ends)
        )

    centre = mean(f) if mode == "centred" else 0.0
    return mean(lambda x: (f(x) - centre) ** 2) ** -0.5


@pytest.mark.parametrize("mode", ["forward", "backward", "centred"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_adaptive_quadrature(name, mode):
    activation, value, slope, kinks = CASES[name]
    ours = gain(activation, mode=mode)
    assert isinstance(ours, float)
    np.testing.assert_allclose(ours, oracle(value, slope, kinks, mode), rtol=2e-6)  # the bar: 1e-5


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["tanh", "gelu", "shifted relu", "jump"])
def test_is_sharper_in_double_precision(name):
    activation, value, slope, kinks = CASES[name]
    for mode in ("forward", "backward"):
        expected = oracle(value, slope, kinks, mode)
        np.testing.assert_allclose(gain(activation, mode=mode), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("activation", "mode", "expected"),
    [
        (jax.nn.relu, "forward", np.sqrt(2)),
        (jax.nn.relu, "backward", np.sqrt(2)),
        (jax.nn.relu, "centred", (0.5 - 0.5 / np.pi) ** -0.5),
        (jnp.sign, "forward", 1.0),
        (jax.lax.erf, "forward", (2 / np.pi * np.arcsin(2 / 3)) ** -0.5),
        (jax.lax.erf, "backward", (4 / np.pi / np.sqrt(5)) ** -0.5),
        (jnp.cos, "forward", (0.5 + 0.5 * np.exp(-2)) ** -0.5),
    ],
    ids=["relu", "relu back", "relu centred", "sign", "erf", "erf back", "cos"],
)
def test_agrees_with_closed_forms(activation, mode, expected):
    np.testing.assert_allclose(gain(activation, mode=mode), expected, rtol=1e-6)


def test_scaling_the_activation_divides_the_gain():
    np.testing.assert_allclose(gain(lambda x: 3 * jnp.tanh(x)), gain(jnp.tanh) / 3, rtol=1e-6)


def test_many_jumps_are_resolved():
    # Rounding to steps of 1 / 4.1: E[phi^2] summed over the steps with the normal distribution.
    steps = np.arange(-40, 41)
    mass = special.ndtr((steps + 0.5) / 4.1) - special.ndtr((steps - 0.5) / 4.1)
    expected = np.sum(mass * (steps / 4.1) ** 2) ** -0.5
    np.testing.assert_allclose(gain(lambda x: jnp.round(4.1 * x) / 4.1), expected, rtol=1e-5)


def test_half_precision_activations_are_averaged_to_their_own_precision():
    half = gain(lambda x: jnp.tanh(x.astype(jnp.bfloat16)))
    np.testing.assert_allclose(half, gain(jnp.tanh), rtol=2**-9)


TRANSFORMS = {
    "jit": lambda f: jax.jit(f)(1.0),
    "grad": lambda f: jax.grad(f)(1.0),
    "vmap": lambda f: jax.vmap(f)(jnp.ones(1))[0],
    "jit of vmap": lambda f: jax.jit(jax.vmap(f))(jnp.ones(1))[0],
    "scan": lambda f: jax.lax.scan(lambda x, _: (f(x), None), 1.0, length=1)[0],
}


@pytest.mark.parametrize("mode", ["forward", "backward"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_works_while_something_else_is_traced(transform, mode):
    result = transform(lambda x: x * gain(jax.nn.relu, mode=mode))
    np.testing.assert_allclose(result, np.sqrt(2), rtol=1e-6)


def test_is_a_float_under_jit():
    seen = []
    jax.jit(lambda x: seen.append(gain(lambda z: jax.nn.relu(z - 0.3337))) or x)(1.0)
    assert isinstance(seen[0], float)
    np.testing.assert_allclose(seen[0], 1.8747854, rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "second_moment"),
    [
        ("forward", lambda a: (1 + a * a) / 2),
        ("backward", lambda a: (1 + a * a) / 2),
        ("centred", lambda a: (1 + a * a) / 2 - (1 - a) ** 2 / (2 * np.pi)),
    ],
    ids=["forward", "backward", "centred"],
)
def test_a_traced_slope_gives_a_differentiable_gain(mode, second_moment):
    def prelu(slope):
        return gain(lambda x: jnp.where(x > 0, x, slope * x), mode=mode)

    value, derivative = jax.jit(jax.value_and_grad(prelu))(0.3)
    np.testing.assert_allclose(value, second_moment(0.3) ** -0.5, rtol=1e-6)
    exact = (second_moment(0.3 + 1e-6) ** -0.5 - second_moment(0.3 - 1e-6) ** -0.5) / 2e-6
    np.testing.assert_allclose(derivative, exact, rtol=1e-5)


@pytest.mark.parametrize(
    ("activation", "mode", "sentence"),
    [
        (
            jnp.tanh,
            "forwards",
            "gain needs mode 'forward', 'backward' or 'centred', got mode='forwards'.",
        ),
        (
            jnp.sign,
            "backward",
            "gain needs an activation whose second moment of the derivative is not zero, got sign.",
        ),
        (
            jnp.zeros_like,
            "forward",
            "gain needs an activation whose second moment is not zero, got zeros_like.",
        ),
        (
            jnp.ones_like,
            "centred",
            "gain needs an activation whose variance is not zero, got ones_like.",
        ),
        (
            lambda x: jnp.exp(x * x / 4),
            "forward",
            "gain needs an activation with a finite second moment, got <lambda>, "
            "whose mean square under N(0, 1) does not converge within |x| <= 16.",
        ),
    ],
    ids=["mode", "step", "zero", "constant", "exp"],
)
def test_what_has_no_gain_is_refused_with_a_sentence(activation, mode, sentence):
    with pytest.raises(ValueError, match=rf"^{re.escape(sentence)}$"):
        gain(activation, mode=mode)


@pytest.mark.parametrize(
    ("activation", "place"),
    # Single precision overflows at exp(88.7); the logarithm ends at 0. The message gives the first
    # node of the quadrature beyond.
    [(lambda x: jnp.exp(x * x), 9.4), (jnp.log, 0.0), (lambda x: jnp.exp(9 * x), 9.86)],
    ids=["exp(x^2)", "log", "exp(9 x)"],
)
def test_values_that_are_not_finite_are_refused_with_their_place(activation, place):
    pattern = r"^gain needs an activation with a finite second moment, got .*not finite at (.*)\.$"
    with pytest.raises(ValueError, match=pattern) as caught:
        kaiming_normal(activation)
    found = abs(float(re.match(pattern, str(caught.value)).group(1)))
    assert place <= found < place + 1
