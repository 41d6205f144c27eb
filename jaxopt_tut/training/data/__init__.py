"""What `fit` trains on: arrays on the device, or batches that come to it.

Inner to `training`, whose public names are in its own `__init__`.
"""

from jaxopt_tut.datasets.inner import (
    Data,
    DeviceData,
    averaging_dtype,
    device_data,
    native,
    num_examples,
    on_device,
    refuse_masked,
    take,
)
from jaxopt_tut.training.data.batches import Batches
from jaxopt_tut.training.data.feeds import Examples, open_data
from jaxopt_tut.training.data.sources import AnyKey, Resident, Source, Window, batch_at, epoch_order
from jaxopt_tut.training.data.streamed import Streamed
from jaxopt_tut.training.data.windows import Layout

__all__ = [
    "AnyKey",
    "Batches",
    "Data",
    "DeviceData",
    "Examples",
    "Layout",
    "Resident",
    "Source",
    "Streamed",
    "Window",
    "averaging_dtype",
    "batch_at",
    "device_data",
    "epoch_order",
    "native",
    "num_examples",
    "on_device",
    "open_data",
    "refuse_masked",
    "take",
]
