"""Files in the format of MNIST: one packer, and a full-size set made of the bundled images."""

import gzip
import struct

import numpy as np
import pytest

from jaxopt_tut.datasets import load_fashion_mnist_mini

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


@pytest.fixture(scope="session")
def pack_idx():
    """Return the function that writes an array as idx, not yet packed with gzip."""

    def pack(array):
        header = struct.pack(
            f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape
        )
        return header + array.astype(array.dtype.newbyteorder(">")).tobytes()

    return pack


@pytest.fixture(scope="session")
def full_directory(tmp_path_factory, pack_idx):
    """Return a directory with a set of full size: ten times the bundled images."""
    directory = tmp_path_factory.mktemp("full")
    mini = load_fashion_mnist_mini()
    for prefix, split in (("train", mini.train), ("t10k", mini.test)):
        images = np.tile(split.images, (10, 1, 1))
        labels = np.tile(split.labels, 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            packed = gzip.compress(pack_idx(array), compresslevel=1)
            (directory / f"{prefix}-{name}-ubyte.gz").write_bytes(packed)
    return directory
