"""What is squared, multiplied or summed is at least float32, whatever it is handed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import gradinit, metainit
from jaxopt_tut.calibration.network import _normalise
from jaxopt_tut.calibration.width import _mean_square_change
from jaxopt_tut.datasets import pixel_statistics, verify_normalization
from jaxopt_tut.diagnostics import gradient_noise, jacobian_singular_values
from jaxopt_tut.diagnostics.measuring.first_step import _does_move, _inner, _norm
from jaxopt_tut.optimizers import norms

HALVES = pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
# Squares of the large leave float16 and those of the small vanish in it; a sum of 20 000 in
# bfloat16 keeps 8 bits.
SCALES = pytest.mark.parametrize("scale", [3e-5, 1.0, 600.0])


def draw(dtype, scale, size=20_000):
    return (scale * jax.random.normal(jax.random.key(0), (size,))).astype(dtype)


def exact(x):
    return np.asarray(x).astype(np.float64)


@HALVES
@SCALES
@pytest.mark.parametrize(
    ("ours", "right"),
    [
        (norms.L1().norm, lambda x: np.abs(x).sum()),
        (norms.LInf().dual_norm, lambda x: np.abs(x).sum()),
        (norms.L2().norm, np.linalg.norm),
        (norms.L2().dual_norm, np.linalg.norm),
        (lambda x: jnp.vdot(norms.L2().steepest(x).astype("float32"), x.astype("float32")), None),
        (_norm, np.linalg.norm),
        (lambda x: _inner(x, x), lambda x: (x * x).sum()),
        (lambda x: _mean_square_change(x, -x), lambda x: (4 * x * x).mean()),
    ],
    ids=["L1", "LInf", "L2", "dual L2", "steepest", "optax norm", "inner", "change"],
)
def test_sums_of_half_precision_are_those_of_double(ours, right, dtype, scale):
    x = draw(dtype, scale)
    expected = (right or np.linalg.norm)(exact(x))
    # 20 000 roundings of single precision; the entries of a direction are rounded to the half.
    rtol = 1e-5 if right else 2 * float(jnp.finfo(dtype).eps) + (2e-2 if scale < 1 else 0)
    np.testing.assert_allclose(ours(x), expected, rtol=rtol)


@HALVES
@SCALES
def test_a_layer_of_half_precision_is_scaled_to_its_target(dtype, scale):
    x = draw(dtype, scale)
    found = exact(_normalise(x, jnp.float32(1.0)))
    np.testing.assert_allclose(
        found.std(), 1, rtol=float(jnp.finfo(dtype).eps) + 2e-2 * (scale < 1)
    )
    assert _normalise(x, jnp.float32(1.0)).dtype == dtype


@HALVES
@SCALES
def test_whether_weights_move_does_not_depend_on_the_precision(dtype, scale):
    x = draw(dtype, scale)
    assert _does_move({"w": x}, {"w": x})
    assert not _does_move({"w": jnp.zeros_like(x)}, {"w": x})


@HALVES
def test_singular_values_of_half_precision(dtype):
    matrix = jnp.diag(jnp.array([3.0, 2.0, 1.0, 0.5])).astype(dtype)
    found = jacobian_singular_values(
        lambda x: matrix @ x, jnp.ones(4, dtype), 4, key=jax.random.key(0)
    )
    # The products round to the half, four times over.
    np.testing.assert_allclose(found, [3, 2, 1, 0.5], atol=12 * float(jnp.finfo(dtype).eps))


@HALVES
def test_the_noise_of_small_gradients_is_that_of_double(dtype):
    x = draw(jnp.float32, 1e-4, 64).astype(dtype)
    noise = gradient_noise(lambda w, x: jnp.mean(w * x), jnp.ones((), dtype), x, 4)
    means = exact(x).reshape(4, 16).mean(axis=1)
    # Each gradient is rounded to the half precision of its parameter.
    rtol = 8 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(noise.trace, 16 * means.var(ddof=1), rtol=rtol)


@pytest.mark.slow
@pytest.mark.parametrize("calibrate", [gradinit, metainit])
def test_a_calibration_of_half_precision_sees_small_gradients(calibrate):
    params = {
        "a": 0.3 * jax.random.normal(jax.random.key(0), (8, 8)),
        "b": 0.3 * jax.random.normal(jax.random.key(1), (8, 8)),
    }
    x = jax.random.normal(jax.random.key(2), (16, 8))

    def loss(params, x):  # gradients of 1e-5 or so
        a, b = (jnp.asarray(params[name], jnp.float32) for name in "ab")
        return 1e-4 * jnp.mean((jnp.tanh(x @ a) @ b - 1) ** 2)

    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), params)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    found = [calibrate(jax.random.key(3), loss, tree, x)[0] for tree in (half, single)]
    for name in params:
        ratio = jnp.linalg.norm(found[0][name].astype(jnp.float32)) / jnp.linalg.norm(
            found[1][name]
        )
        # Gradients of 1e-5 have some six bits in float16, and their signs steer the scales.
        np.testing.assert_allclose(ratio, 1, rtol=0.1)


def test_bytes_are_summed_exactly():
    # 47 million pixels: a float32 sum of them would keep seven digits of 6e9.
    images = np.full((6000, 28, 280), 255, np.uint8)
    images[::2] = 254
    mean, std = pixel_statistics(images)
    np.testing.assert_allclose([mean, std], [254.5 / 255, 0.5 / 255], rtol=1e-14)
    check = verify_normalization(images[:1000], mean, std)
    # Normalised, one step of grey is 2, and 255 in single precision is known to 1e-5 of that.
    np.testing.assert_allclose([check.mean, check.std], [0, 1], atol=1e-4)
    assert check.ok
