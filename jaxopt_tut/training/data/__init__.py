"""What `fit` trains on: arrays on the device, or batches that come to it.

Inner to `training`, whose public names are in its own `__init__`.
"""

from jaxopt_tut.training.data.arrays import (
    Data,
    DeviceData,
    averaging_dtype,
    device_data,
    native,
    num_examples,
    on_device,
    take,
)

__all__ = [
    "Data",
    "DeviceData",
    "averaging_dtype",
    "device_data",
    "native",
    "num_examples",
    "on_device",
    "take",
]
