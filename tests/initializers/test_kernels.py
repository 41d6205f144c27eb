"""The axes of every kind of kernel: forward and backward variance, measured on the layer itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxopt_tut.initializers import kaiming_normal, variance_scaling, xavier_normal

HWIO = ("NHWC", "HWIO", "NHWC")


def convolution(groups=1, stride=1):
    return lambda x, w: lax.conv_general_dilated(
        x, w, (stride, stride), "SAME", dimension_numbers=HWIO, feature_group_count=groups
    )


def transposed(stride, swapped=False):
    return lambda x, w: lax.conv_transpose(
        x, w, (stride, stride), "SAME", dimension_numbers=HWIO, transpose_kernel=swapped
    )


def in_groups(init, groups):
    """Draw a kernel (..., in, groups * out) as it is: one kernel a group."""

    def draw(key, shape, dtype=jnp.float32):
        apart = (*shape[:-1], groups, shape[-1] // groups)
        return init(key, apart, dtype).reshape(shape)

    return draw


GROUPED = {"in_axis": -3, "out_axis": -1, "batch_axis": -2}
IMAGE = (2, 16, 16, 12)

# Shape of the kernel, of the input, the layer, how it is drawn: a function of the mode.
KERNELS = {
    "dense": ((40, 60), (50, 40), jnp.matmul, lambda mode: variance_scaling(1, mode)),
    "convolution": ((3, 3, 12, 20), IMAGE, convolution(), lambda mode: variance_scaling(1, mode)),
    "torch's": (
        (60, 40),
        (50, 40),
        lambda x, w: x @ w.T,
        lambda mode: variance_scaling(1, mode, in_axis=1, out_axis=0),
    ),
    "depthwise": (
        (3, 3, 1, 12),
        IMAGE,
        convolution(groups=12),
        lambda mode: variance_scaling(1, mode, out_axis=(), batch_axis=-1),
    ),
    "depthwise, two a channel": (
        (3, 3, 1, 24),
        IMAGE,
        convolution(groups=12),
        lambda mode: in_groups(variance_scaling(1, mode, **GROUPED), 12),
    ),
    "grouped": (
        (3, 3, 4, 24),
        IMAGE,
        convolution(groups=3),
        lambda mode: in_groups(variance_scaling(1, mode, **GROUPED), 3),
    ),
    "strided": (
        (4, 4, 12, 20),
        IMAGE,
        convolution(stride=2),
        lambda mode: variance_scaling(1 if mode == "fan_in" else 4, mode),
    ),
    "transposed": (
        (4, 4, 12, 20),
        IMAGE,
        transposed(stride=2),
        lambda mode: variance_scaling(4 if mode == "fan_in" else 1, mode),
    ),
    "transposed, axes swapped": (
        (4, 4, 20, 12),
        IMAGE,
        transposed(stride=2, swapped=True),
        lambda mode: variance_scaling(4 if mode == "fan_in" else 1, mode, in_axis=-1, out_axis=-2),
    ),
    "stacked for a scan": (
        (5, 40, 60),
        (5, 10, 40),
        lambda x, w: lax.scan(lambda _, pair: (None, pair[0] @ pair[1]), None, (x, w))[1],
        lambda mode: variance_scaling(1, mode, batch_axis=0),
    ),
    "stacked convolutions": (
        (2, 3, 3, 12, 20),
        (2, *IMAGE),
        jax.vmap(convolution()),
        lambda mode: variance_scaling(1, mode, batch_axis=0),
    ),
    "experts": (
        (4, 40, 60),
        (4, 20, 40),
        lambda x, w: jnp.einsum("ebi,eio->ebo", x, w),
        lambda mode: variance_scaling(1, mode, batch_axis=0),
    ),
    "query, key and value in one": (
        (40, 3, 20),
        (50, 40),
        lambda x, w: jnp.einsum("bi,iko->bko", x, w),
        lambda mode: variance_scaling(1, mode, in_axis=0, out_axis=(1, 2)),
    ),
    "into heads": (
        (40, 4, 15),
        (50, 40),
        lambda x, w: jnp.einsum("bi,iho->bho", x, w),
        lambda mode: variance_scaling(1, mode, in_axis=0, out_axis=(1, 2)),
    ),
    "out of heads": (
        (4, 10, 60),
        (50, 4, 10),
        lambda x, w: jnp.einsum("bhi,hio->bo", x, w),
        lambda mode: variance_scaling(1, mode, in_axis=(0, 1), out_axis=2),
    ),
}


def variances(name, init, mode, num_keys=40):
    """Return the variance behind the layer, or of what comes back through it, once a key."""
    shape, inputs, layer, _ = KERNELS[name]

    def one(key):
        key_w, key_x, key_y = jax.random.split(key, 3)
        x = jax.random.normal(key_x, inputs)
        y, back = jax.vjp(lambda x: layer(x, init(key_w, shape)), x)
        signal = y if mode == "fan_in" else back(jax.random.normal(key_y, y.shape))[0]
        if len(inputs) >= 4:  # at the border a window meets padding
            signal = signal[..., 2:-2, 2:-2, :]
        return jnp.mean(signal**2)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), num_keys))


def assert_mean(found, expected):
    error = float(found.std()) / np.sqrt(found.size)
    assert error < 0.1 * expected
    assert abs(float(found.mean()) - expected) < 4 * error


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("name", KERNELS)
def test_the_recipe_of_each_kernel_keeps_the_variance(name, mode):
    assert_mean(variances(name, KERNELS[name][3](mode), mode), 1.0)


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("depthwise", "fan_out", 1 / 12),
        ("grouped", "fan_out", 1 / 3),
        ("strided", "fan_out", 1 / 4),
        ("transposed", "fan_in", 1 / 4),
        ("stacked for a scan", "fan_in", 1 / 5),
        ("experts", "fan_in", 1 / 4),
        ("into heads", "fan_in", 1 / 4),
        ("out of heads", "fan_out", 1 / 4),
    ],
)
def test_the_default_axes_are_wrong_by_the_factor_that_the_docstring_says(name, mode, expected):
    assert_mean(variances(name, variance_scaling(1.0, mode), mode), expected)


@pytest.mark.parametrize("channels", [64, 512])
def test_kaiming_of_a_depthwise_kernel_needs_its_axes(channels):
    shape, key = (3, 3, 1, channels), jax.random.key(0)
    axes = {"out_axis": (), "batch_axis": -1}
    plain, right = (
        jnp.mean(kaiming_normal(mode="fan_out", **more)(key, shape) ** 2) for more in ({}, axes)
    )
    np.testing.assert_allclose(right / plain, channels, rtol=1e-5)
    # 2 / 9 from 9 * channels draws: a variance scatters by sqrt(2 / n).
    np.testing.assert_allclose(right, 2 / 9, rtol=4 * np.sqrt(2 / (9 * channels)))


def test_xavier_of_projections_in_one_kernel_is_that_of_each():
    # Query, key and value, each (200, 200): 2 / (200 + 200), not 2 / (200 + 600).
    w = xavier_normal(in_axis=0, out_axis=2, batch_axis=1)(jax.random.key(0), (200, 3, 200))
    np.testing.assert_allclose(w.var(), 1 / 200, rtol=4 * np.sqrt(2 / w.size))
