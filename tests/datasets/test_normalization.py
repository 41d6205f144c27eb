import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings

from jaxopt_tut.datasets import normalize, pixel_statistics, verify_normalization

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=8))


def test_statistics_of_a_ramp_match_the_closed_form():
    # 0 … 255, each once: mean 255/2 and variance (256^2 - 1)/12 in grey values.
    mean, std = pixel_statistics(RAMP)
    assert mean == 0.5
    assert std == pytest.approx(np.sqrt((256**2 - 1) / 12) / 255, rel=1e-15)


@settings(deadline=None, max_examples=50)
@given(images=IMAGES)
def test_statistics_match_numpy_in_double_precision(images):
    assume(len(np.unique(images)) > 1)
    mean, std = pixel_statistics(images)
    # numpy's sums of at most 512 numbers in [0, 1] err by less than 512 eps of their size.
    np.testing.assert_allclose(mean, (images / 255).mean(), rtol=512 * 2.2e-16)
    np.testing.assert_allclose(std, (images / 255).std(), rtol=512 * 2.2e-16 / std)


def test_statistics_of_many_pixels_lose_no_digits():
    # One pixel differs by one grey value: var = (n - 1)/n^2 of a grey value squared.
    images = np.full(10**7, 254, np.uint8)
    images[0] = 255
    _, std = pixel_statistics(images)
    assert std == pytest.approx(np.sqrt((10**7 - 1) / 10**14) / 255, rel=1e-15)


@settings(deadline=None, max_examples=50)
@given(images=IMAGES)
def test_own_statistics_normalise_to_zero_mean_and_unit_variance(images):
    assume(len(np.unique(images)) > 1)
    mean, std = pixel_statistics(images)
    y = normalize(images, mean, std, dtype=np.float64)
    # Sums of at most 512 numbers up to 1/std.
    np.testing.assert_allclose(y.mean(), 0, atol=512 * 2.2e-16 / std)
    np.testing.assert_allclose(y.std(), 1, rtol=512 * 2.2e-16 / std)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize(
    "std", [0.25, np.float32(0.25), np.float64(0.25)], ids=["py", "f32", "f64"]
)
def test_result_has_the_dtype_asked_for_on_host_and_device(dtype, std):
    host, device = (
        normalize(RAMP, 0.5, std, dtype=dtype),
        normalize(jnp.asarray(RAMP), 0.5, std, dtype=dtype),
    )
    assert isinstance(host, np.ndarray)
    assert isinstance(device, jax.Array)
    assert host.dtype == device.dtype == dtype
    truth = (np.arange(256).reshape(16, 16) / 255 - 0.5) / 0.25
    # Three roundings in float32 at values up to 1 are divided by std = 1/4; one more to `dtype`,
    # at values up to 2.
    bound = 3 * 0.5 * 1.2e-7 / 0.25 + float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(host, np.float64), truth, rtol=0, atol=bound)
    np.testing.assert_allclose(np.asarray(device, np.float64), truth, rtol=0, atol=bound)


@pytest.mark.usefixtures("x64")
def test_double_precision_is_kept_on_the_device():
    mean, std = pixel_statistics(RAMP)
    found = normalize(jnp.asarray(RAMP), mean, np.float64(std), dtype=jnp.float64)
    assert found.dtype == jnp.float64
    truth = (np.arange(256).reshape(16, 16) / 255 - mean) / std
    np.testing.assert_allclose(found, truth, rtol=0, atol=14 * 2.2e-16)  # as in float32


def test_jit_and_vmap_give_the_eager_result():
    images = jnp.asarray(RAMP)
    eager = normalize(images, 0.25, 0.5)
    # A compiler may multiply by 1/255. On each side three roundings at values up to 1 are divided
    # by std = 1/2, and one follows at values up to 1.5.
    tolerance = {"rtol": 0, "atol": 2 * (3 * 0.5 * 1.2e-7 / 0.5 + 1.2e-7)}
    np.testing.assert_allclose(jax.jit(normalize)(images, 0.25, 0.5), eager, **tolerance)
    rows = jax.vmap(normalize, in_axes=(0, None, None))(images, 0.25, 0.5)
    np.testing.assert_allclose(rows, eager, **tolerance)


def test_gradients_through_mean_and_std_match_the_closed_form():
    total = lambda mean, std: normalize(jnp.asarray(RAMP), mean, std).sum()
    by_mean, by_std = jax.grad(total, argnums=(0, 1))(0.25, 0.5)
    # sum y = (sum x/255 - n mean)/std with n = 256 and sum x/255 = 128.
    np.testing.assert_allclose(by_mean, -256 / 0.5, rtol=256 * 1.2e-7)
    np.testing.assert_allclose(by_std, -(128 - 256 * 0.25) / 0.5**2, rtol=256 * 1.2e-7)


def test_check_reports_the_statistics_of_the_normalised_batch():
    mean, std = pixel_statistics(RAMP)
    for images, compute in (
        (RAMP, verify_normalization),
        (jnp.asarray(RAMP), jax.jit(verify_normalization)),
    ):
        check = compute(images, mean, std)
        assert check.ok
        # Sums of 256 float32 of size up to 1.73.
        np.testing.assert_allclose(check.mean, 0, atol=256 * 1.2e-7)
        np.testing.assert_allclose(check.std, 1, rtol=256 * 1.2e-7)
        np.testing.assert_allclose(
            [check.min, check.max], [-mean / std, (1 - mean) / std], rtol=1e-6
        )


@pytest.mark.parametrize(
    ("mean", "std", "is_ok"),
    [
        (0.5 + 0.28 * 0.029, 0.29, True),
        (0.5 + 0.30 * 0.031, 0.29, False),
        (0.5 - 0.30 * 0.031, 0.29, False),
        (0.5, 0.29 * 1.04, False),
        (0.5, 0.29 * 0.96, False),
        (float("nan"), 0.29, False),
        (0.5, float("inf"), False),
    ],
    ids=["shifted in bounds", "too low", "too high", "too narrow", "too wide", "nan", "infinite"],
)
def test_flag_follows_mean_and_std(mean, std, is_ok):
    # The ramp has mean 0.5 and std 0.2898.
    assert bool(verify_normalization(RAMP, mean, std).ok) is is_ok
    assert bool(verify_normalization(jnp.asarray(RAMP), mean, std).ok) is is_ok


def test_flag_follows_the_tolerance():
    assert not verify_normalization(RAMP, 0.45, 0.29).ok
    assert verify_normalization(RAMP, 0.45, 0.29, tolerance=0.2).ok


BAD_INPUT = {
    "float images": (
        lambda: normalize(RAMP / 255, 0.5, 0.3),
        TypeError,
        "normalize needs uint8 images, got float64.",
    ),
    "list": (
        lambda: normalize([1, 2], 0.5, 0.3),
        TypeError,
        "normalize needs uint8 images, got list.",
    ),
    "zero std": (
        lambda: normalize(RAMP, 0.5, 0),
        ValueError,
        "normalize needs std > 0, got std=0.",
    ),
    "negative std": (
        lambda: normalize(RAMP, 0.5, np.float32(-1)),
        ValueError,
        "normalize needs std > 0, got std=-1.0.",
    ),
    "nan std": (
        lambda: normalize(RAMP, 0.5, float("nan")),
        ValueError,
        "normalize needs std > 0, got std=nan.",
    ),
    "integer result": (
        lambda: normalize(RAMP, 0.5, 0.3, dtype=np.int32),
        TypeError,
        "normalize needs a floating dtype, got dtype=int32.",
    ),
    "signed bytes": (
        lambda: pixel_statistics(RAMP.astype(np.int8)),
        TypeError,
        "pixel_statistics needs uint8 images, got int8.",
    ),
    "blank images": (
        lambda: pixel_statistics(np.full((2, 3), 7, np.uint8)),
        ValueError,
        "pixel_statistics needs images with more than one grey value, got 6 equal pixels.",
    ),
    "no images": (
        lambda: pixel_statistics(np.zeros((0, 28, 28), np.uint8)),
        ValueError,
        "pixel_statistics needs images with more than one grey value, got 0 equal pixels.",
    ),
    "zero tolerance": (
        lambda: verify_normalization(RAMP, 0.5, 0.3, tolerance=0.0),
        ValueError,
        "verify_normalization needs tolerance > 0, got tolerance=0.0.",
    ),
    "float batch": (
        lambda: verify_normalization(RAMP / 255, 0.5, 0.3),
        TypeError,
        "normalize needs uint8 images, got float64.",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_refuses_bad_input(call, error, sentence):
    with pytest.raises(error, match=f"^{sentence}$"):
        call()
