"""Moments that are infinite are refused, and those that only look so are right."""

import re
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxopt_tut.initializers import (
    correlation_map,
    critical,
    gain,
    kaiming_normal,
    kaiming_uniform,
    mean_field,
    variance_map,
)


def signed_root(x):
    return jnp.sign(x) * jnp.sqrt(jnp.abs(x))


INFINITE = {
    "1/x": (lambda x: 1 / x, "forward", 0),
    "1/x^2": (lambda x: 1 / x**2, "forward", 0),
    "1/x, guarded": (lambda x: jnp.where(x == 0, 0, 1 / x), "forward", 0),
    "1/(x - 1)": (lambda x: 1 / (x - 1), "forward", 1),
    "1/(x - 0.7717)": (lambda x: 1 / (x - 0.7717), "forward", 0.7717),
    "one side": (lambda x: jnp.where(x > 2, 1 / (x - 2), x), "forward", 2),
    "one side, left": (lambda x: jnp.where(x < -0.3, 1 / (x + 0.3), x), "forward", -0.3),
    "1/x far out": (lambda x: 1e-3 / (x - 5.3), "forward", 5.3),
    "tan": (jnp.tan, "forward", np.pi / 2),
    "1/sin": (lambda x: 1 / jnp.sin(x), "forward", 0),
    "1/sqrt|x|": (lambda x: jnp.abs(x) ** -0.5, "forward", 0),
    "1/sqrt|x - 1.1|": (lambda x: jnp.abs(x - 1.1) ** -0.5, "centred", 1.1),
    "1/sqrt of relu": (lambda x: jnp.where(x > 0, jnp.abs(x) ** -0.5, 0), "forward", 0),
    "log, backward": (jnp.log, "backward", 0),
    "log|x|, backward": (lambda x: jnp.log(jnp.abs(x)), "backward", 0),
    "log|x - 2.5|, backward": (lambda x: jnp.log(jnp.abs(x - 2.5)), "backward", 2.5),
    "signed root, backward": (signed_root, "backward", 0),
    "sqrt|x|, backward": (lambda x: jnp.sqrt(jnp.abs(x)), "backward", 0),
    "shifted root, backward": (lambda x: signed_root(x - 0.6), "backward", 0.6),
    "sqrt(relu), backward": (
        lambda x: jnp.where(x > 1, jnp.sqrt(jnp.where(x > 1, x - 1, 1)), 0),
        "backward",
        1,
    ),
    "|x|^0.3, backward": (lambda x: jnp.abs(x) ** 0.3, "backward", 0),
    "cbrt, backward": (jnp.cbrt, "backward", 0),
    "arctanh, backward": (lambda x: jnp.arctanh(jnp.clip(x, -1, 1)), "backward", 1),
    "1/x in bfloat16": (lambda x: 1 / x.astype(jnp.bfloat16), "forward", 0),
    "1/(x - 1) in float16": (lambda x: 1 / (x - 1).astype(jnp.float16), "forward", 1),
    "x sin(1/x), backward": (lambda x: x * jnp.sin(1 / x), "backward", 0),
}


@pytest.mark.parametrize(("activation", "mode", "place"), INFINITE.values(), ids=INFINITE)
def test_an_infinite_moment_is_refused_with_its_place(activation, mode, place):
    pattern = (
        r"^gain needs an activation with a finite second moment( of the derivative)?, got .*, "
        r"whose mean square under N\(0, 1\) does not converge around x = (.*)\.$"
    )
    with pytest.raises(ValueError, match=pattern) as caught:
        gain(activation, mode=mode)
    backward, found = re.match(pattern, str(caught.value)).groups()
    assert (backward is not None) == (mode == "backward")
    np.testing.assert_allclose(abs(float(found)), abs(place), rtol=1e-5)


def test_what_outgrows_the_gaussian_far_out_is_refused():
    # The integrand exp(0.02 |x|^3 - x^2 / 2) falls until 16.7 and rises from there.
    with pytest.raises(ValueError, match=r"mean square .* does not converge within \|x\| <= 16\.$"):
        gain(lambda x: jnp.exp(0.01 * jnp.abs(x) ** 3))
    # E[exp(2 z)^2] = exp(8): overflows from x = 44 on, to no harm.
    np.testing.assert_allclose(gain(lambda x: jnp.exp(2 * x)), np.exp(-4), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda f: kaiming_normal(f), "gain"),
        (lambda f: kaiming_uniform(f), "gain"),
        (lambda f: variance_map(f, 1.0, 1.0, 0.0), "variance_map"),
        (lambda f: correlation_map(f, 0.5, 1.0, 1.0, 0.0), "correlation_map"),
        (lambda f: mean_field(f, 1.0, 0.1), "mean_field"),
        (lambda f: critical(f, 0.1), "critical"),
    ],
    ids=["kaiming_normal", "kaiming_uniform", "variance", "correlation", "mean_field", "critical"],
)
def test_everything_that_averages_refuses_it(call, name):
    pattern = rf"^{name} needs .* got <lambda>, whose mean square .* converge around x = 0\.5\.$"
    with pytest.raises(ValueError, match=pattern):
        call(lambda x: 1 / (x - 0.5))


@pytest.mark.parametrize(
    "call",
    [
        lambda f: kaiming_normal(f, "fan_out"),
        lambda f: mean_field(f, 1.0, 0.1),
        lambda f: critical(f, 0.1),
    ],
    ids=["fan_out", "mean_field", "critical"],
)
def test_an_infinite_slope_is_refused_where_slopes_count(call):
    with pytest.raises(ValueError, match=r"finite second moment of the derivative, got signed_ro"):
        call(signed_root)
    # E|z| = sqrt(2 / pi): the function itself has every moment.
    np.testing.assert_allclose(
        variance_map(signed_root, 1.0, 1.0, 0.0), np.sqrt(2 / np.pi), rtol=1e-5
    )


def test_a_moment_that_ends_with_the_variance_is_infinite_from_there_on():
    # E[exp(q z^2 / 4)^2] = (1 - q)^(-1/2) for q < 1 and infinite for q > 1.
    found = variance_map(lambda x: jnp.exp(x * x / 4), jnp.array([0.5, 1.5, 4.0]), 1.0, 0.0)
    np.testing.assert_allclose(found, [2**0.5, np.inf, np.inf], rtol=1e-5)


def mean(f, place):
    """Average under N(0, 1) around an integrable singularity, in t = |x - place|^(1 / 20)."""

    def side(sign):
        def integrand(t):
            x = place + sign * t**20
            return f(sign * t**20) * np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * 20 * t**19

        ends = [0, 0.5, 0.7, 1, 1.1, 1.2, 1.3]
        return sum(
            quad(integrand, a, b, epsabs=1e-13, epsrel=1e-11, limit=200)[0]
            for a, b in pairwise(ends)
        )

    return side(1) + side(-1)


# Function of x - place, the same in double precision, its slope.
INTEGRABLE = {
    "log|x|": (lambda x: jnp.log(jnp.abs(x)), lambda x: np.log(abs(x)), None),
    "|x|^-0.2": (lambda x: jnp.abs(x) ** -0.2, lambda x: abs(x) ** -0.2, None),
    "|x|^-0.3": (lambda x: jnp.abs(x) ** -0.3, lambda x: abs(x) ** -0.3, None),
    "|x|^-0.4": (lambda x: jnp.abs(x) ** -0.4, lambda x: abs(x) ** -0.4, None),
    "|x|^0.3": (lambda x: jnp.abs(x) ** 0.3, lambda x: abs(x) ** 0.3, None),
    "|x|^0.8": (
        lambda x: jnp.abs(x) ** 0.8,
        lambda x: abs(x) ** 0.8,
        lambda x: 0.8 * np.sign(x) * abs(x) ** -0.2,
    ),
    "|x|^0.6": (
        lambda x: jnp.abs(x) ** 0.6,
        lambda x: abs(x) ** 0.6,
        lambda x: 0.6 * np.sign(x) * abs(x) ** -0.4,
    ),
    "x log|x|": (
        lambda x: x * jnp.log(jnp.abs(x)),
        lambda x: x * np.log(abs(x)),
        lambda x: 1 + np.log(abs(x)),
    ),
    "signed root": (signed_root, lambda x: np.sign(x) * abs(x) ** 0.5, None),
    "x / |x|": (lambda x: x / jnp.abs(x), np.sign, None),
    "one side": (
        lambda x: jnp.where(x > 0, jnp.abs(x) ** -0.3, 0.5),
        lambda x: abs(x) ** -0.3 if x > 0 else 0.5,
        None,
    ),
}


@pytest.mark.parametrize(
    "place", [0.0, -1.1, *(pytest.param(place, marks=pytest.mark.slow) for place in (1, 1e-3, 2.5))]
)
@pytest.mark.parametrize("name", INTEGRABLE)
def test_an_integrable_singularity_is_integrated(name, place):
    activation, value, slope = INTEGRABLE[name]
    place = float(np.float32(place))
    moved = lambda x: activation(x - place)
    # At a place off zero single precision ends at 128 units in the last place, 1.5e-5 at 1: what
    # lies inside is continued, and the place itself is known to half a unit. At |x|^-0.4 some 20 %
    # of the moment lies inside, known to 0.5 / 128 of it.
    rtol = 1e-5 if place == 0 else 1e-3
    expected = mean(lambda x: value(x) ** 2, place) ** -0.5
    np.testing.assert_allclose(gain(moved), expected, rtol=rtol)
    if name != "x / |x|":  # a node of the average may fall on 0 / 0
        # Here half of what lies inside is lost: at |x|^-0.4 half of 1.5e-5^0.2 = 11 %.
        share = 0.06 if place else 20 * rtol
        np.testing.assert_allclose(variance_map(moved, 1.0, 1.0, 0.0), expected**-2, rtol=share)
    centre = mean(value, place)
    expected = mean(lambda x: (value(x) - centre) ** 2, place) ** -0.5
    np.testing.assert_allclose(gain(moved, mode="centred"), expected, rtol=rtol)
    if slope is not None:
        expected = mean(lambda x: slope(x) ** 2, place) ** -0.5
        np.testing.assert_allclose(gain(moved, mode="backward"), expected, rtol=rtol)


# Steep, rough, stepped, spiked: nothing infinite about them. The moment, and to what.
HEALTHY = {
    "kink of slope 1000": (
        lambda x: jnp.where(x > 0.3, 1e3 * (x - 0.3), x - 0.3),
        "backward",
        lambda x: 1e3 if x > 0.3 else 1.0,
        [0.3],
    ),
    "steep sigmoid": (
        lambda x: jax.nn.sigmoid(1e3 * (x - 1)),
        "backward",
        lambda x: 250 / np.cosh(min(abs(500 * (x - 1)), 300)) ** 2,
        [0.98, 0.99, 1, 1.01, 1.02],
    ),
    "very steep tanh": (
        lambda x: jnp.tanh(1e5 * (x - 0.01)),
        "backward",
        lambda x: 1e5 / np.cosh(min(abs(1e5 * (x - 0.01)), 300)) ** 2,
        [0.009, 0.0099, 0.00999, 0.01, 0.01001, 0.0101, 0.011],
    ),
    "spike off zero": (
        lambda x: jnp.log((x - 1) ** 2 + 1e-6),
        "backward",
        lambda x: 2 * (x - 1) / ((x - 1) ** 2 + 1e-6),
        [0.9, 0.99, 0.999, 1, 1.001, 1.01, 1.1],
    ),
    "smoothed abs": (
        lambda x: jnp.sqrt(x**2 + 1e-12),
        "backward",
        lambda x: x / np.sqrt(x**2 + 1e-12),
        [-1e-5, 0, 1e-5],
    ),
    "softsign step": (
        lambda x: x / (jnp.abs(x) + 1e-3),
        "backward",
        lambda x: 1e-3 / (abs(x) + 1e-3) ** 2,
        [-0.1, -1e-2, -1e-3, 0, 1e-3, 1e-2, 0.1],
    ),
    "swish of beta 50": (
        lambda x: x * jax.nn.sigmoid(50 * x),
        "forward",
        lambda x: x / (1 + np.exp(min(-50 * x, 700))),
        [-0.2, 0, 0.2],
    ),
    "relu cubed": (lambda x: jax.nn.relu(x) ** 3, "backward", lambda x: 3 * max(x, 0) ** 2, [0]),
    "floor": (jnp.floor, "forward", np.floor, list(range(-9, 10))),
    "x sin(1/x)": (
        lambda x: x * jnp.sin(1 / x),
        "forward",
        lambda x: x * np.sin(1 / x) if x else 0.0,
        [-1, -0.3, -0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1, 0.3, 1],
    ),
    "exp(-1/x^2)": (
        lambda x: jnp.exp(-1 / x**2),
        "backward",
        lambda x: 2 / x**3 * np.exp(-1 / x**2) if x else 0.0,
        [0],
    ),
    "sinc": (jnp.sinc, "backward", None, []),
    "huge": (lambda x: 1e15 * jnp.tanh(x), "forward", lambda x: 1e15 * np.tanh(x), []),
    "tiny": (lambda x: 1e-15 * jnp.tanh(x), "forward", lambda x: 1e-15 * np.tanh(x), []),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
def test_steep_and_rough_functions_are_not_refused(name):
    activation, mode, f, breaks = HEALTHY[name]
    found = gain(activation, mode=mode)
    assert np.isfinite(found)
    if f is not None:
        ends = np.unique([-16.0, -4, -1, 1, 4, 16, *breaks])
        density = lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        moment = sum(
            quad(lambda x: f(x) ** 2 * density(x), a, b, limit=500)[0] for a, b in pairwise(ends)
        )
        # The arguments themselves are rounded: 1e5 x, (x - 1) at 1e-3 to 1e-4 of a unit.
        np.testing.assert_allclose(found, moment**-0.5, rtol=1e-5 if "spike" not in name else 1e-4)


ACTIVATIONS_OF_JAX = (
    "celu elu gelu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log1mexp "
    "log_sigmoid mish relu relu6 selu sigmoid silu soft_sign softplus sparse_plus sparse_sigmoid "
    "squareplus swish tanh"
)


@pytest.mark.parametrize("name", ACTIVATIONS_OF_JAX.split())
@pytest.mark.parametrize("mode", ["forward", "backward", "centred"])
def test_every_activation_of_jax_is_averaged(name, mode):
    if name == "log1mexp":  # log(1 - exp(-x)) is no function of negative numbers
        activation = lambda x: jax.nn.log1mexp(jnp.abs(x) + 0.1)
    else:
        activation = getattr(jax.nn, name)
    with jax.enable_x64(True):
        f = activation if mode != "backward" else jax.vmap(jax.grad(activation))
        x, w = np.polynomial.legendre.leggauss(64)
        ends = np.arange(-16, 16.5, 0.5)
        x = ((ends[1:] + ends[:-1])[:, None] / 2 + 0.25 * x).ravel()
        w = np.tile(0.25 * w, len(ends) - 1) * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        y = np.asarray(f(jnp.asarray(x)))
        y = y - np.sum(w * y) * (mode == "centred")
        expected = np.sum(w * y**2) ** -0.5
    np.testing.assert_allclose(gain(activation, mode=mode), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_double_precision_agrees(mode):
    with jax.enable_x64(True):
        with pytest.raises(ValueError, match=r"does not converge around x = 0\.7717\.$"):
            gain(lambda x: 1 / (x - 0.7717), mode=mode)
        expected = mean(lambda x: abs(x) ** -0.8, 0.7717) ** -0.5
        f = lambda x: jnp.abs(x - 0.7717) ** (-0.4 if mode == "forward" else 0.6)
        scale = 1 if mode == "forward" else 1 / 0.6
        # 128 units in the last place are 1e-14: 1.6e-3 of the moment, known to half a unit of it.
        np.testing.assert_allclose(gain(f, mode=mode), scale * expected, rtol=1e-5)
