"""What every initializer of the room promises, one table for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut import initializers
from jaxopt_tut.types import Initializer

MAKERS = {
    "constant": lambda: initializers.constant(0.3),
    "normal": lambda: initializers.normal(0.3),
    "uniform": lambda: initializers.uniform(0.3),
    "variance_scaling": lambda: initializers.variance_scaling(2.0, "fan_out", "truncated_normal"),
    "equal_variance": initializers.equal_variance,
    "xavier_normal": initializers.xavier_normal,
    "xavier_uniform": initializers.xavier_uniform,
    "kaiming_normal": initializers.kaiming_normal,
    "kaiming_uniform": initializers.kaiming_uniform,
    "orthogonal": initializers.orthogonal,
    "delta_orthogonal": initializers.delta_orthogonal,
}
SHAPE = (3, 3, 4, 6)


def quick_key(seed):
    """Return a key whose programs compile several times faster than the default's."""
    return jax.random.key(seed, impl="rbg")


every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def test_the_table_names_every_initializer_of_the_room():
    others = {"Critical", "MeanField", "critical", "mean_field", "gain", "reinitialize"}
    maps = {"variance_map", "correlation_map"}
    assert set(initializers.__all__) == set(MAKERS) | others | maps


@every
def test_is_an_initializer_of_shape_and_single_precision(make):
    init = make()
    assert isinstance(init, Initializer)
    value = init(quick_key(0), SHAPE)
    assert value.shape == SHAPE
    assert value.dtype == jnp.float32


@every
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64"])
def test_keeps_the_dtype_asked_for(make, dtype):
    value = make()(quick_key(0), SHAPE, jnp.dtype(dtype))
    assert value.dtype == jnp.dtype(dtype)
    assert bool(jnp.isfinite(value).all())


@pytest.mark.usefixtures("x64")
@every
def test_draws_in_double_precision(make):
    value = make()(quick_key(0), SHAPE, jnp.float64)
    assert value.dtype == jnp.float64
    if make is not MAKERS["constant"]:  # all others have digits beyond single precision
        nonzero = np.asarray(value)[np.asarray(value) != 0]
        assert (nonzero != nonzero.astype(np.float32)).mean() > 0.9


# XLA fuses the multiplications: a few units in the last place of numbers below 2.
FUSED = 4 * np.finfo(np.float32).eps


@pytest.mark.slow
def test_jit_equals_eager():
    key = jax.random.key(1)
    # The factories are traced too, as in a model built under jit.
    jitted = jax.jit(lambda key: {name: make()(key, SHAPE) for name, make in MAKERS.items()})(key)
    for name, make in MAKERS.items():
        np.testing.assert_allclose(jitted[name], make()(key, SHAPE), atol=FUSED, err_msg=name)


@pytest.mark.slow
def test_vmap_over_keys_equals_the_loop():
    keys = jax.random.split(jax.random.key(1), 2)
    kinds = ("normal", "kaiming_normal", "orthogonal")  # fixed, scaled, factorised
    for name in kinds:
        draw = lambda key: MAKERS[name]()(key, (36, 6))  # noqa: B023
        together, one_by_one = jax.vmap(draw)(keys), jnp.stack([draw(key) for key in keys])
        np.testing.assert_allclose(together, one_by_one, atol=FUSED, err_msg=name)


@every
def test_same_key_same_bits_and_other_key_other_bits(make):
    init = make()
    first, again, other = (np.asarray(init(quick_key(seed), SHAPE)) for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes()
    assert (first.tobytes() == other.tobytes()) == (make is MAKERS["constant"])


@every
def test_integer_dtypes_are_refused_by_name(make):
    with pytest.raises(TypeError, match=r"^\w+ needs a floating or complex dtype, got int32\.$"):
        make()(quick_key(0), SHAPE, jnp.int32)
    with pytest.raises(TypeError, match=r"^\w+ needs a floating or complex dtype, got None\.$"):
        make()(quick_key(0), SHAPE, None)


@every
def test_is_a_kernel_init_of_linen_and_nnx(make):
    init = make()
    x = jnp.ones((1, 5, 5, 4))
    layer = linen.Conv(6, (3, 3), kernel_init=init)
    kernel = layer.init(jax.random.key(0), x)["params"]["kernel"]
    assert kernel.shape == SHAPE
    conv = nnx.Conv(4, 6, (3, 3), kernel_init=init, rngs=nnx.Rngs(0))
    assert conv.kernel[...].shape == SHAPE
    if make is not MAKERS["delta_orthogonal"]:
        dense = nnx.Linear(4, 6, kernel_init=init, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        assert dense.kernel[...].dtype == jnp.bfloat16


SCALED = {
    "normal": initializers.normal,
    "uniform": initializers.uniform,
    "xavier_normal": initializers.xavier_normal,
    "xavier_uniform": initializers.xavier_uniform,
    "orthogonal": initializers.orthogonal,
    "delta_orthogonal": initializers.delta_orthogonal,
    "variance_scaling": lambda scale: initializers.variance_scaling(scale * scale),
}
scaled = pytest.mark.parametrize("make", SCALED.values(), ids=SCALED.keys())


@scaled
@settings(deadline=None, max_examples=10)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31 - 1))
def test_the_draw_is_proportional_to_the_scale(make, scale, seed):
    key = quick_key(seed)
    unit, stretched = make(1.0)(key, SHAPE), make(scale)(key, SHAPE)
    # Four roundings apart: of the scale, its square, its root and the product.
    np.testing.assert_allclose(stretched, scale * unit, rtol=4 * np.finfo(np.float32).eps)


@scaled
def test_a_traced_scale_can_be_swept_and_differentiated(make):
    key, scales = quick_key(5), jnp.array([0.0, 0.5, 2.0])

    def draw_and_slope(scale):
        return jax.jvp(lambda scale: make(scale)(key, SHAPE), (scale,), (jnp.ones_like(scale),))

    draws, slopes = jax.vmap(draw_and_slope)(scales)
    looped = jnp.stack([make(float(scale))(key, SHAPE) for scale in scales])
    np.testing.assert_allclose(draws, looped, rtol=4 * np.finfo(np.float32).eps)
    unit = make(1.0)(key, SHAPE)  # draws are linear in the scale
    np.testing.assert_allclose(slopes[1], unit, rtol=8 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(slopes[2], unit, rtol=8 * np.finfo(np.float32).eps)
    assert bool(jnp.isfinite(slopes[0]).all())
