"""The idx format of MNIST: a header that says everything, then the numbers.

A file is two zero bytes, one byte for the dtype, one for the number of axes, the length of each
axis as a big-endian 32-bit integer, and the entries in C order, big-endian. All of it is packed
with gzip here, as the data sets are distributed.
"""

import gzip
import math
import operator
import os
import struct
import zlib
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np

from jaxopt_tut.types import DTypeLike, Shape

_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
_DTYPES = {code: np.dtype(">" + name) for name, code in _CODES.items()}


def read_idx(
    path: str | os.PathLike[str], *, shape: Sequence[SupportsIndex], dtype: DTypeLike = np.uint8
) -> np.ndarray:
    r"""Read one gzip-packed idx file whose shape and dtype are known.

    $$\text{bytes} = 4 + 4\, r + b \prod_{k=1}^{r} n_k$$

    for $r$ axes of lengths $n_k$ and entries of $b$ bytes. For files that others have made: the
    header is compared with what you expect before anything else is unpacked, and never more than
    the expected bytes plus one are, so neither a header that lies nor a gzip bomb costs memory.
    Costs two copies of the array for a moment; gunzip takes nearly all of the time (0.4 s for the
    47 MB of Fashion-MNIST's training images).

    Args:
      path: The `.gz` file.
      shape: The lengths $n_k$ that the file must have.
      dtype: The dtype that the file must have: uint8, int8, int16, int32, float32 or float64, in
        whatever byte order: `">f4"` and `"<f4"` both name float32.

    Returns:
      A writable array in the machine's own byte order, the only one that `jax.numpy` takes.

    Raises:
      TypeError: If `shape` is no sequence of integers.
      ValueError: If idx has no such dtype; if the file is not intact gzip, its magic number,
        dtype or shape is another, or its payload is shorter or longer than the header says.
      OSError: If the file cannot be opened.

    Example:
      >>> import gzip, pathlib, tempfile
      >>> header = bytes([0, 0, 0x0B, 2]) + bytes([0, 0, 0, 1]) + bytes([0, 0, 0, 2])
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     path = pathlib.Path(directory, "pair.gz")
      ...     _ = path.write_bytes(gzip.compress(header + bytes([1, 0, 255, 254])))
      ...     read_idx(path, shape=(1, 2), dtype=np.int16).tolist()
      [[256, -2]]

    References:
      LeCun, Cortes, Burges (1998), "The MNIST database", section "File formats".
      https://yann.lecun.com/exdb/mnist/
    """
    lengths = _as_shape(shape)
    expected = np.dtype(dtype).newbyteorder("=")
    if expected.str[1:] not in _CODES:
        known = ", ".join(d.name for d in _DTYPES.values())
        raise ValueError(f"read_idx needs one of the dtypes {known}, got dtype={expected}.")
    name = os.fspath(path)
    try:
        with gzip.open(path) as file:
            _check_header(file.read(4 + 4 * len(lengths)), lengths, expected, name)
            num_bytes = math.prod(lengths) * expected.itemsize
            payload = file.read(num_bytes)
            is_longer = file.read(1) != b""  # reaching the end also makes gzip compare its CRC
    except EOFError as error:
        raise ValueError(f"read_idx needs a whole file, but {name!r} ends too early.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"read_idx needs an intact gzip file, got {name!r}: {error}.") from error
    if is_longer:
        raise ValueError(
            f"read_idx needs as many bytes as the header says, "
            f"but {name!r} goes on after the {num_bytes} of shape {lengths}."
        )
    if len(payload) < num_bytes:
        raise ValueError(
            f"read_idx needs as many bytes as the header says, "
            f"but {name!r} has {len(payload)} of the {num_bytes} of shape {lengths}."
        )
    return np.frombuffer(payload, expected.newbyteorder(">")).astype(expected).reshape(lengths)


def _as_shape(shape: Sequence[SupportsIndex]) -> Shape:
    try:
        return tuple(operator.index(length) for length in shape)
    except TypeError as error:
        raise TypeError(f"read_idx needs a tuple of integers as shape, got {shape!r}.") from error


def _check_header(header: bytes, shape: Shape, dtype: np.dtype, name: str) -> None:
    """Refuse a header other than that of an array of this shape and dtype."""
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _DTYPES:
        raise ValueError(
            f"read_idx needs a file that opens with the magic number of idx, "
            f"got 0x{header[:4].hex()} in {name!r}."
        )
    if header[2] != _CODES[dtype.str[1:]]:
        raise ValueError(f"read_idx needs {dtype} in {name!r}, got {_DTYPES[header[2]].name}.")
    if header[3] != len(shape):
        raise ValueError(f"read_idx needs {len(shape)} axes in {name!r}, got {header[3]}.")
    if len(header) < 4 + 4 * len(shape):
        raise ValueError(f"read_idx needs a whole header, but {name!r} ends within it.")
    found = struct.unpack(f">{len(shape)}I", header[4:])
    if found != shape:
        raise ValueError(f"read_idx needs shape {shape} in {name!r}, got {found}.")
