"""Training data as the compiled programs see it: arrays on the device, normalised on the fly."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.datasets.dataset import Dataset, Split
from jaxopt_tut.datasets.normalization import normalize
from jaxopt_tut.trees import named_leaves, path_name
from jaxopt_tut.types import Batch, PyTree, Scalar

Data = TypeAliasType("Data", Dataset | PyTree)
"""A data set of images, or any tree of arrays with a common first axis."""


class DeviceData(NamedTuple):
    """Examples on the device and what brings images to zero mean and unit variance.

    Everything here is passed to the programs as an argument: an array that a program closes over
    becomes a constant, which XLA tries to fold.
    """

    arrays: PyTree
    """Every leaf has the examples in its first axis."""
    normalization: tuple[Scalar, Scalar] | None
    """Mean and standard deviation of the images, or None for data used as they are."""


def device_data(
    dataset: Data, caller: str, split: Literal["train", "test"] | Split = "train"
) -> DeviceData:
    """Put one part of a data set, or any tree of arrays with a common first axis, on the device.

    Images stay bytes; a `Split` of bytes is refused, as it does not say how to normalise them.
    """
    arrays, normalization = parted(dataset, caller, split)
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays, is_leaf=_is_iterator):
        check_array(path_name(path), leaf, caller)
    check_sizes({name: np.shape(leaf)[:1] for name, leaf in named_leaves(arrays)}, caller)
    arrays = jax.tree_util.tree_map_with_path(
        lambda path, leaf: on_device(caller, path_name(path), leaf), arrays
    )
    return DeviceData(arrays, normalization)


class OffDevice:
    """Data that only `fit` brings to the device, as it needs them."""


def parted(
    dataset: Data, caller: str, split: Literal["train", "test"] | Split = "train"
) -> tuple[PyTree, tuple[Scalar, Scalar] | None]:
    """Take the part of a data set, and what normalises its images; any other tree is whole."""
    if isinstance(dataset, OffDevice):
        raise TypeError(
            f"{caller} needs data that fit on the device, got {type(dataset).__name__}: they are "
            "for fit alone, whose evaluate= may be any function that goes over them."
        )
    normalization = None
    if isinstance(dataset, Dataset):
        normalization = (jnp.float32(dataset.mean), jnp.float32(dataset.std))
        dataset = getattr(dataset, split) if isinstance(split, str) else split
        if not isinstance(dataset, Split) or not _has_bytes(dataset):
            found = getattr(getattr(dataset, "images", dataset), "dtype", type(dataset).__name__)
            raise TypeError(f"{caller} needs a Split of uint8 images, got {found}.")
    elif isinstance(dataset, Split) and _has_bytes(dataset):
        raise TypeError(
            f"{caller} needs a Dataset, which says how to normalise bytes, got a Split of bytes; "
            "evaluator takes the part of a Dataset as split=, fit as dataset._replace(train=...)."
        )
    return dataset, normalization


def check_sizes(sizes: Mapping[str, tuple[int, ...]], caller: str) -> None:
    """Refuse arrays of different numbers of examples; those without a first axis have no size."""
    if not sizes:
        raise ValueError(f"{caller} needs a dataset with at least one array, got none.")
    first_name, first_size = next(iter(sizes.items()))
    for name, size in sizes.items():
        if not size or size != first_size:
            raise ValueError(
                f"{caller} needs arrays with a common first axis, "
                f"got {first_size} at {first_name!r} and {size} at {name!r}."
            )


def _is_iterator(part: Any) -> bool:
    return isinstance(part, Iterator | range | set)  # no leaves to JAX


def check_array(name: str, leaf: Any, caller: str) -> None:
    """Refuse what is no array of numbers, and say how it becomes one."""
    found, advice = type(leaf).__name__, ""
    if isinstance(leaf, int | float | complex | range):
        found, advice = f"{leaf!r}", ": of lists make arrays, np.asarray(...)"
    elif not hasattr(leaf, "shape"):
        if isinstance(leaf, Iterable) and not isinstance(leaf, str | bytes):
            advice = ": gather its batches first, jax.tree.map(lambda *b: np.concatenate(b), *it)"
    else:
        dtype = leaf.dtype if isinstance(leaf, jax.Array) else np.asarray(leaf).dtype
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            found, advice = f"{dtype}", ": hand over their words, jax.random.key_data(keys)"
        elif dtype.names is not None:
            fields = ", ".join(dtype.names)
            found, advice = f"records of {fields}", ": make a dictionary of its fields"
        elif dtype.kind in "OSUMm":
            found, advice = f"{dtype}", ": encode it as numbers"
        elif np.ma.is_masked(leaf):
            found, advice = "masked entries", ": fill them in, or hand the mask over beside them"
        else:
            return
    raise TypeError(
        f"{caller} needs arrays of numbers as dataset, got {found} at {name!r}{advice}."
    )


def native(leaf: Any) -> Any:
    """Make of a leaf of NumPy one for which JAX has a dtype, if there is one."""
    if isinstance(leaf, jax.Array | int | float | complex) and not isinstance(leaf, np.generic):
        return leaf
    values = np.asarray(leaf)
    if values.dtype.char in "gG":  # of more bits than JAX knows
        return values.astype(np.float64 if values.dtype.char == "g" else np.complex128)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def refuse_masked(caller: str, name: str, leaf: Any) -> None:
    """Refuse an array whose mask would be lost: JAX has none."""
    if np.ma.is_masked(leaf):
        raise TypeError(
            f"{caller} needs arrays without a mask, got masked entries at {name!r}: fill them in."
        )


def on_device(caller: str, name: str, leaf: Any) -> Array:
    """Make an array of JAX of a leaf, or refuse integers that would come out as others."""
    refuse_masked(caller, name, leaf)
    values = native(leaf)
    if isinstance(values, np.ndarray):
        check_range(caller, name, values, jax.dtypes.canonicalize_dtype(values.dtype))
    return jnp.asarray(values)


def check_range(caller: str, name: str, values: np.ndarray, dtype: np.dtype) -> None:
    """Refuse integers that come out as others in the dtype that JAX has for them."""
    if values.dtype.kind not in "iu" or dtype == values.dtype or not values.size:
        return
    limits = jnp.iinfo(dtype)
    for value in (values.min(), values.max()):
        if not limits.min <= value <= limits.max:
            raise ValueError(
                f"{caller} needs integers in the range of {dtype}, got {value} at {name!r}: "
                "number what they stand for anew, np.unique(..., return_inverse=True), or "
                "switch on jax_enable_x64."
            )


def _has_bytes(split: Split) -> bool:
    return getattr(split.images, "dtype", None) == np.uint8


def num_examples(data: DeviceData) -> int:
    """Return the length of the common first axis."""
    return jax.tree.leaves(data.arrays)[0].shape[0]


def take(data: DeviceData, indices: Int[Array, "batch"]) -> Batch:
    """Gather a batch; images are normalised after the gather, so that only bytes are moved."""
    batch = jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=0, mode="clip"), data.arrays)
    return normalized(batch, data.normalization)


def normalized(batch: Batch, normalization: tuple[Scalar, Scalar] | None) -> Batch:
    """Bring images to zero mean and unit variance; what is used as it is stays."""
    if normalization is None:
        return batch
    return Split(normalize(batch.images, *normalization), batch.labels)


def averaging_dtype(dtype: np.dtype) -> np.dtype:
    """Return the precision in which numbers are averaged: single, double for what has 64 bits."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return dtype
    return jnp.dtype(jnp.float64 if dtype.itemsize == 8 else jnp.float32)
