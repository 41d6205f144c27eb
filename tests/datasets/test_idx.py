import gzip
import tracemalloc

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from jaxopt_tut.datasets import read_idx

DTYPES = ("uint8", "int8", "int16", "int32", "float32", "float64")
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
PAIR = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
HEADER = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])


@settings(deadline=None, max_examples=60)
@given(array=st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))
def test_what_was_written_as_idx_reads_back_the_same(tmp_path_factory, pack_idx, array):
    path = tmp_path_factory.mktemp("law") / "array.gz"
    path.write_bytes(gzip.compress(pack_idx(array)))
    found = read_idx(path, shape=array.shape, dtype=array.dtype)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()  # as bits: NaN and -0.0 count too
    assert found.flags.writeable


@pytest.mark.parametrize("order", "<>=")
@pytest.mark.parametrize("name", DTYPES)
def test_a_byte_order_names_the_same_dtype_and_jax_takes_the_array(tmp_path, pack_idx, name, order):
    array = np.array([[0, 1, -2], [100, 5, 6]]).astype(name)
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(pack_idx(array)))
    found = read_idx(path, shape=[2, 3], dtype=np.dtype(name).newbyteorder(order))
    assert found.dtype == np.dtype(name)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)
    # float64 becomes float32 without x64; these small integers are exact in both.
    np.testing.assert_array_equal(jnp.asarray(found), array)


@pytest.mark.parametrize("shape", [6, (2.0, 3.0), "23", (2, None)])
def test_a_shape_that_is_none_is_refused_with_a_sentence(tmp_path, shape):
    with pytest.raises(TypeError, match=r"^read_idx needs a tuple of integers as shape, got "):
        read_idx(tmp_path / "any.gz", shape=shape)


BAD_CONTENT = {
    "empty": (b"", r"a file that opens with the magic number of idx, got 0x in '.*bad\.gz'\."),
    "magic": (b"\x89PNG\r\n\x1a\n" + PAIR.tobytes(), r".*magic number of idx, got 0x89504e47 in"),
    "unknown dtype": (
        b"\0\0\x0a\2" + HEADER[4:] + PAIR.tobytes(),
        r".*magic number of idx, got 0x00000a02 in",
    ),
    "dtype": (b"\0\0\x0d\2" + HEADER[4:] + PAIR.tobytes(), r"uint8 in '.*', got float32\."),
    "rank": (b"\0\0\x08\1" + HEADER[4:] + PAIR.tobytes(), r"2 axes in '.*', got 1\."),
    "half a header": (HEADER[:10], r"a whole header, but '.*' ends within it\."),
    "shape": (
        HEADER[:7] + b"\3" + HEADER[8:] + PAIR.tobytes(),
        r"shape \(2, 3\) in '.*', got \(3, 3\)\.",
    ),
    "huge shape": (
        HEADER[:4] + b"\xff" * 8 + PAIR.tobytes(),
        r"shape \(2, 3\) in '.*', got \(4294967295, 4294967295\)\.",
    ),
    "short payload": (
        HEADER + PAIR.tobytes()[:-1],
        r"as many .*, but '.*' has 5 of the 6 of shape \(2, 3\)\.",
    ),
    "long payload": (
        HEADER + PAIR.tobytes() + b"\0",
        r"as many .*, but '.*' goes on after the 6 of shape \(2, 3\)",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_refuses_bad_content(tmp_path, content, sentence):
    path = tmp_path / "bad.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=f"^read_idx needs {sentence}"):
        read_idx(path, shape=(2, 3))


def flip(packed, position):
    return packed[:position] + bytes([packed[position] ^ 0xFF]) + packed[position + 1 :]


WHOLE = gzip.compress(HEADER + PAIR.tobytes())
BAD_GZIP = {
    "not gzip": (HEADER + PAIR.tobytes(), r"an intact gzip file, got '.*bad\.gz': Not a gzipped"),
    "wrong checksum": (flip(WHOLE, -8 + len(WHOLE)), r"an intact gzip file, got '.*': CRC check"),
    "broken stream": (flip(WHOLE, 10), r"an intact gzip file, got '.*': Error -3"),
    "rest that is no gzip": (WHOLE + b"more", r"an intact gzip file, got '.*': Not a gzipped"),
    "cut in the stream": (WHOLE[:-12], r"a whole file, but '.*bad\.gz' ends too early\."),
    "cut in the trailer": (WHOLE[:-3], r"a whole file, but '.*bad\.gz' ends too early\."),
}


@pytest.mark.parametrize(("packed", "sentence"), BAD_GZIP.values(), ids=BAD_GZIP)
def test_refuses_a_damaged_gzip_file(tmp_path, packed, sentence):
    path = tmp_path / "bad.gz"
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=f"^read_idx needs {sentence}"):
        read_idx(path, shape=(2, 3))


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (HEADER, "goes on after the 6"),
        (HEADER[:4] + b"\xff" * 8, "got \\(4294967295, 4294967295\\)"),
    ],
    ids=["honest header", "lying header"],
)
def test_a_gzip_bomb_is_refused_before_memory_is_spent(tmp_path, header, sentence):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header + bytes(2**26), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=sentence):
            read_idx(path, shape=(2, 3))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # gzip unpacks in steps of at most 128 KiB whatever is asked of it; the bomb holds 64 MiB.
    assert peak < 2**20


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.complex64, bool, object])
def test_refuses_a_dtype_that_idx_does_not_have(tmp_path, dtype):
    sentence = r"^read_idx needs one of the dtypes uint8, int8, .*, float64, got dtype="
    with pytest.raises(ValueError, match=sentence):
        read_idx(tmp_path / "any.gz", shape=(2, 3), dtype=dtype)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.gz"):
        read_idx(tmp_path / "nowhere.gz", shape=(2, 3))
