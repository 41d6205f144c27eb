"""Data are recognised by all of their bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.training import fingerprints
from jaxopt_tut.training.fingerprints import data_digest

SHAPES = {
    "rows": (37, 3),
    "one row larger than a chunk": (2, 300),
    "a column": (1000,),
    "a number": (),
    "no examples": (0, 4),
}


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray], ids=["host", "device"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_digest_does_not_depend_on_chunks_nor_on_where_the_data_are(shape, make, monkeypatch):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    expected = data_digest({"x": array})
    monkeypatch.setattr(fingerprints, "CHUNK_BYTES", 100)
    assert data_digest({"x": make(array)}) == expected


@settings(max_examples=30, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.float32, jnp.bfloat16, np.bool_]))
def test_any_bit_of_data_larger_than_a_chunk_changes_the_digest(data, dtype):
    array = np.zeros((64, 5), dtype)
    before = data_digest((jnp.asarray(array),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "CHUNK_BYTES", 50)
        assert data_digest((jnp.asarray(array),)) == before
        at = data.draw(st.integers(0, 63)), data.draw(st.integers(0, 4))
        array[at] = 1
        assert data_digest((jnp.asarray(array),)) != before


def test_one_example_of_data_of_20_mb_is_told_from_another():
    array = np.zeros((20, 1024, 1024), np.uint8)
    other = array.copy()
    other[1, 512, 512] = 1
    assert data_digest(jax.device_put(array)) != data_digest(jax.device_put(other))


def test_names_shapes_and_dtypes_are_told_apart():
    zeros = np.zeros((4, 2), np.float32)
    others = [{"x": zeros}, {"y": zeros}, {"x": zeros.reshape(2, 4)}, {"x": zeros.view(np.int32)}]
    assert len(set(map(data_digest, others))) == len(others)
