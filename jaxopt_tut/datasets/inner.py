"""The inner face of `datasets`: data as compiled programs see them, for the rooms above.

Other rooms import these names from here; nothing about them is promised to users.
"""

from jaxopt_tut.datasets.arrays import (
    Data,
    DeviceData,
    OffDevice,
    averaging_dtype,
    check_array,
    check_range,
    check_sizes,
    device_data,
    native,
    normalized,
    num_examples,
    on_device,
    parted,
    refuse_masked,
    take,
)
from jaxopt_tut.datasets.chunks import Chunk, Chunks, map_chunks, mean_over, read_chunks

__all__ = [
    "Chunk",
    "Chunks",
    "Data",
    "DeviceData",
    "OffDevice",
    "averaging_dtype",
    "check_array",
    "check_range",
    "check_sizes",
    "device_data",
    "map_chunks",
    "mean_over",
    "native",
    "normalized",
    "num_examples",
    "on_device",
    "parted",
    "read_chunks",
    "refuse_masked",
    "take",
]
