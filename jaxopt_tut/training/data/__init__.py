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
from jaxopt_tut.training.data.sources import AnyKey, Resident, Source, Window, batch_at, epoch_order

__all__ = [
    "AnyKey",
    "Data",
    "DeviceData",
    "Resident",
    "Source",
    "Window",
    "averaging_dtype",
    "batch_at",
    "device_data",
    "epoch_order",
    "native",
    "num_examples",
    "on_device",
    "take",
]
