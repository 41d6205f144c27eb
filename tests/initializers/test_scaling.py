import re
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import initializers
from jaxopt_tut.initializers import (
    equal_variance,
    kaiming_normal,
    kaiming_uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)
from jaxopt_tut.initializers.arguments import fans

SHAPE = (5, 5, 16, 40)  # fans 400 and 1000
NUM = 5 * 5 * 16 * 40
KURTOSIS = {"normal": 3, "uniform": 9 / 5, "truncated_normal": 2.37}


def check_variance(draws, variance, distribution="normal"):
    """Compare the variance to four standard errors, s^2 sqrt((kurtosis - 1) / n)."""
    error = variance * np.sqrt((KURTOSIS[distribution] - 1) / draws.size)
    assert abs(float((jnp.abs(draws) ** 2).mean()) - variance) < 4 * error


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 400), ("fan_out", 1000), ("fan_avg", 700)])
def test_variance_is_the_scale_over_the_fan(mode, fan, distribution):
    draws = variance_scaling(3.0, mode, distribution)(jax.random.key(0), SHAPE)
    check_variance(draws, 3 / fan, distribution)


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_draws_the_numbers_of_jax(mode, distribution):
    ours = variance_scaling(3.0, mode, distribution)(jax.random.key(0), (200, 30))
    peer = jax.nn.initializers.variance_scaling(3.0, mode, distribution)
    # The recipes are the same, up to the rounding of the factor.
    np.testing.assert_allclose(ours, peer(jax.random.key(0), (200, 30)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distribution", KURTOSIS)
def test_complex_variance_is_the_stated_one(distribution):
    # |w|^2 has the relative variance kurtosis - 1 <= 1.
    key = jax.random.key(0, impl="rbg")  # quick to compile
    draws = variance_scaling(3.0, "fan_in", distribution)(key, SHAPE, jnp.complex64)
    error = 3 / 400 / np.sqrt(NUM)
    assert abs(float((jnp.abs(draws) ** 2).mean()) - 3 / 400) < 4 * error


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        (equal_variance(), 1 / 400),
        (xavier_normal(), 2 / 1400),
        (xavier_normal(2.0), 8 / 1400),
        (kaiming_normal(), 2 / 400),
        (kaiming_normal(mode="fan_out"), 2 / 1000),
        (kaiming_normal(jnp.tanh), 1 / 0.394294 / 400),  # E tanh(z)^2 = 0.394294
        (kaiming_normal(jnp.tanh, "fan_out"), 1 / 0.464400 / 1000),  # E tanh'(z)^2 = 0.464400
    ],
    ids=["equal", "xavier", "xavier x2", "relu", "relu out", "tanh", "tanh out"],
)
def test_normal_recipes_have_their_variance(init, variance):
    check_variance(init(jax.random.key(1), SHAPE), variance)


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        (xavier_uniform(), np.sqrt(6 / 1400)),
        (xavier_uniform(0.5), 0.5 * np.sqrt(6 / 1400)),
        (kaiming_uniform(), np.sqrt(6 / 400)),
        (kaiming_uniform(lambda x: jax.nn.leaky_relu(x, 0.2)), np.sqrt(6 / 1.04 / 400)),
    ],
    ids=["xavier", "xavier x0.5", "relu", "leaky"],
)
def test_uniform_recipes_fill_their_bounds(init, bound):
    draws = init(jax.random.key(2), SHAPE)
    check_variance(draws, bound**2 / 3, "uniform")
    # The bound is rounded three times; 16000 draws come within 1e-3 of it, but for e^-16.
    assert bound * (1 - 1e-3) < float(jnp.abs(draws).max()) <= bound * (1 + 4e-7)


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({}, (5 * 5 * 16, 5 * 5 * 40)),
        ({"in_axis": 1, "out_axis": 0}, (5 * 16 * 40, 5 * 16 * 40)),
        ({"in_axis": (0, 1, 2)}, (400, 40)),
        ({"batch_axis": (0, 1)}, (16, 40)),
        ({"in_axis": -1, "out_axis": -2, "batch_axis": 0}, (5 * 40, 5 * 16)),
    ],
    ids=["HWIO", "OIHW", "flattened", "stacked", "transposed"],
)
def test_fans_count_the_window_but_not_the_batch(axes, expected):
    assert fans("test", SHAPE, **axes) == expected


def test_axes_reach_every_recipe():
    # A weight (out, in) with its axes named is the transpose's problem: fan_in = 30.
    for make in (equal_variance, xavier_normal, xavier_uniform, kaiming_normal, kaiming_uniform):
        named = make(in_axis=1, out_axis=0)(jax.random.key(0), (200, 30))
        scale = {"equal_variance": 1 / 30, "kaiming": 2 / 30, "xavier": 2 / 230}
        variance = next(v for name, v in scale.items() if make.__name__.startswith(name))
        distribution = "uniform" if "uniform" in make.__name__ else "normal"
        check_variance(named, variance, distribution)


def pre_activation_moments(init, first, activation, key, widths, x):
    keys = jax.random.split(key, len(widths) - 1)
    moments, h = [], x
    for i, shape in enumerate(pairwise(widths)):
        h = (h if i == 0 else activation(h)) @ (first if i == 0 else init)(keys[i], shape)
        moments.append((h**2).mean())
    return jnp.stack(moments)


@pytest.mark.slow
def test_layers_keep_the_second_moment_theory_predicts():
    # E over networks is exact at any width: Kaiming under ReLU keeps E h^2 = 1 behind a first layer
    # of equal variance; Xavier in a linear net multiplies it by 2 d_in / (d_in + d_out).
    widths, num_keys = (98, 64, 32, 10), 400
    x = jax.random.normal(jax.random.key(0), (64, 98))
    x = x / jnp.sqrt((x**2).mean())

    def both(key):
        key_relu, key_linear = jax.random.split(key)
        relu = pre_activation_moments(
            kaiming_normal(), equal_variance(), jax.nn.relu, key_relu, widths, x
        )
        xavier = xavier_uniform()
        linear = pre_activation_moments(xavier, xavier, lambda h: h, key_linear, widths, x)
        return jnp.stack([relu, linear])

    # Keys of this kind compile ten times faster than the default ones; any will do here.
    keys = jax.random.split(jax.random.key(1, impl="rbg"), num_keys)
    moments = np.asarray(jax.jit(jax.vmap(both))(keys))
    expected = np.stack([np.ones(3), np.cumprod([2 * a / (a + b) for a, b in pairwise(widths)])])
    error = moments.std(axis=0) / np.sqrt(num_keys)
    np.testing.assert_array_less(np.abs(moments.mean(axis=0) - expected), 4 * error)
    # The wrong pairing fails the same test: Xavier does not keep 1 here.
    assert (np.abs(moments[:, 1].mean(axis=0) - 1) > 4 * error[1]).all()


def test_a_learned_slope_is_a_hyper_parameter_like_any_other():
    def largest_weight(slope):
        init = kaiming_uniform(lambda x: jnp.where(x > 0, x, slope * x))
        return jnp.abs(init(jax.random.key(0), (200, 30))).max()

    value, derivative = jax.jit(jax.value_and_grad(largest_weight))(0.5)
    # Proportional to (2 / (1 + a^2))^(1/2), whose logarithmic derivative is -a / (1 + a^2).
    np.testing.assert_allclose(value, np.sqrt(6 / 200 / 1.25), rtol=2e-3)  # the largest of 6000
    np.testing.assert_allclose(derivative / value, -0.5 / 1.25, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "error", "sentence"),
    [
        (
            lambda: variance_scaling(-1.0),
            ValueError,
            "variance_scaling needs a finite scale >= 0, got scale=-1.0.",
        ),
        (
            lambda: variance_scaling(1.0, "fan"),
            ValueError,
            "variance_scaling needs mode 'fan_in', 'fan_out' or 'fan_avg', got mode='fan'.",
        ),
        (
            lambda: variance_scaling(1.0, "fan_in", "cauchy"),
            ValueError,
            "variance_scaling needs distribution 'normal', 'uniform' or 'truncated_normal', "
            "got distribution='cauchy'.",
        ),
        (
            lambda: xavier_normal(-2.0),
            ValueError,
            "xavier_normal needs a finite gain >= 0, got gain=-2.0.",
        ),
        (
            lambda: xavier_uniform("relu"),
            TypeError,
            "xavier_uniform needs a real number as gain, got gain='relu'.",
        ),
        (
            lambda: kaiming_normal(mode="fan_avg"),
            ValueError,
            "kaiming_normal needs mode 'fan_in' or 'fan_out', got mode='fan_avg'.",
        ),
        (
            lambda: kaiming_uniform("relu"),
            TypeError,
            "gain needs a callable activation, got 'relu'.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_arguments_are_refused_with_a_sentence(build, error, sentence):
    with pytest.raises(error, match=rf"^{re.escape(sentence)}$"):
        build()


RECIPES = ["equal_variance", "xavier_normal", "xavier_uniform", "kaiming_normal", "kaiming_uniform"]


@pytest.mark.parametrize("name", RECIPES)
def test_bad_shapes_are_refused_in_the_name_of_the_recipe(name):
    make = getattr(initializers, name)
    key = jax.random.key(0)
    fan = "fan_avg" if "xavier" in name else "fan_in"
    for init, shape, sentence in (
        (make(), (5,), f"{name} needs a shape of rank >= 2, got shape (5,)."),
        (make(), (), f"{name} needs a shape of rank >= 2, got shape ()."),
        (make(), (0, 3, 4, 5), f"{name} needs {fan} > 0, got {fan}=0 for shape (0, 3, 4, 5)."),
        (make(), (-2, 3), f"{name} needs a shape without negative sizes, got shape (-2, 3)."),
        (
            make(in_axis=2),
            (4, 3),
            f"{name} needs distinct axes of a kernel of rank 2, "
            "got in_axis=2, out_axis=-1, batch_axis=().",
        ),
        (
            make(in_axis=-1),
            (4, 3),
            f"{name} needs distinct axes of a kernel of rank 2, "
            "got in_axis=-1, out_axis=-1, batch_axis=().",
        ),
    ):
        with pytest.raises(ValueError, match=rf"^{re.escape(sentence)}$"):
            init(key, shape)


def test_an_empty_output_axis_is_an_empty_kernel():
    assert equal_variance()(jax.random.key(0), (3, 0)).shape == (3, 0)
    with pytest.raises(ValueError, match=r"^equal_variance needs fan_in > 0, got fan_in=0 for"):
        equal_variance()(jax.random.key(0), (0, 3))
