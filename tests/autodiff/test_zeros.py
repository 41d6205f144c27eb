"""Zeros written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.autodiff.zeros import filled, zeros

FLOAT0 = jax.dtypes.float0
LIKES = {
    "array": (jnp.ones((2, 3), jnp.bfloat16), (2, 3), jnp.bfloat16),
    "complex": (np.ones(2, np.complex64), (2,), jnp.complex64),
    "type": (jax.ShapeDtypeStruct((0, 2), jnp.float32), (0, 2), jnp.float32),
    "integers": (jnp.arange(3), (3,), FLOAT0),
    "flag": (jax.ShapeDtypeStruct((), bool), (), FLOAT0),
}


@pytest.mark.parametrize("name", LIKES)
def test_a_zero_derivative_has_the_shape_and_the_tangent_type_of_the_value(name):
    like, shape, dtype = LIKES[name]
    found = zeros(like)
    assert found.shape == shape
    assert found.dtype == dtype
    if dtype != FLOAT0:
        assert not np.asarray(found, np.complex64).any()


def test_none_stands_for_zero_and_what_is_not_wanted_stays_none():
    given, likes = [None, jnp.float32(2.0), None], [jnp.ones(2), jnp.ones(()), jnp.arange(2)]
    first, second, third = filled(given, likes)
    assert first.tolist() == [0.0, 0.0]
    assert second == 2.0
    assert third.dtype == FLOAT0
    assert [x is None for x in filled(given, likes, [False, False, True])] == [True, True, False]


def test_zeros_vary_over_the_devices_over_which_the_value_does():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")

    @jax.shard_map(mesh=mesh, in_specs=spec, out_specs=spec)
    def blank(x):
        assert jax.typeof(zeros(x)) == jax.typeof(x)
        return zeros(x)

    assert blank(jnp.ones(3)).tolist() == [0.0, 0.0, 0.0]
