"""Arrays on the host or in files, of which only some rows are looked at at a time."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxopt_tut.datasets.inner import (
    Data,
    check_array,
    check_range,
    check_sizes,
    native,
    parted,
)
from jaxopt_tut.training.data.mapped import MappedFile, mapped_file
from jaxopt_tut.trees import named_leaves, path_name
from jaxopt_tut.types import PyTree, Scalar


class Column(NamedTuple):
    """An array, or what returns some of its rows when it is asked for them by their indices."""

    name: str
    values: Any
    file: MappedFile | None

    def rows(self, indices: Int[np.ndarray, "rows"]) -> PyTree:
        """Read some rows, or trees of them."""
        if not isinstance(self.values, np.ndarray):
            # files of HDF5 want them ordered, and all are read faster so
            ordered, back = np.unique(indices, return_inverse=True)
            return jax.tree.map(lambda rows: np.asarray(rows)[back], self.values[ordered])
        if self.file is None:
            return np.take(self.values, indices, axis=0)
        self.file.check(self.name)
        return self.file.rows(self.values, indices)


class Columns(NamedTuple):
    """What has rows, and what one of them looks like."""

    tree: PyTree
    """Of columns."""
    row: PyTree
    """Shape and dtype of one row, as it is read."""
    dtypes: PyTree
    """Those JAX has for it, here and now: in a thread it may have others."""
    size: int
    normalization: tuple[Scalar, Scalar] | None

    def batch(self, size: int) -> PyTree:
        """Return the shapes of so many rows."""
        struct = lambda row, dtype: jax.ShapeDtypeStruct((size, *row.shape), dtype)
        return jax.tree.map(struct, self.row, self.dtypes)

    def rows(self, indices: Int[np.ndarray, "rows"]) -> PyTree:
        """Read some rows, as arrays of NumPy."""
        found = jax.tree.map(lambda column: column.rows(indices), self.tree, is_leaf=_is_column)
        return fitting("Streamed", found, self.row, self.dtypes, len(indices))


def fitting(caller: str, found: PyTree, row: PyTree, dtypes: PyTree, size: int) -> PyTree:
    """Hand over rows of the same form as before, in the dtypes that JAX has for them."""
    names = [name for name, _ in named_leaves(found)]
    if names != [name for name, _ in named_leaves(row)]:
        expected = [name for name, _ in named_leaves(row)]
        raise ValueError(f"{caller} needs batches of one structure, got {names} after {expected}.")
    leaves, treedef = jax.tree.flatten(row)
    return jax.tree.unflatten(
        treedef,
        [
            _fitting(caller, name, np.asarray(native(leaf)), like, dtype, size)
            for (name, leaf), like, dtype in zip(
                named_leaves(found), leaves, jax.tree.leaves(dtypes), strict=True
            )
        ],
    )


def _fitting(
    caller: str, name: str, leaf: np.ndarray, row: jax.ShapeDtypeStruct, dtype: Any, size: int
) -> np.ndarray:
    if leaf.shape != (size, *row.shape) or leaf.dtype != row.dtype:
        raise ValueError(
            f"{caller} needs batches of one shape and dtype, got {leaf.dtype}{list(leaf.shape)} "
            f"after {row.dtype}{[size, *row.shape]} at {name!r}."
        )
    check_range(caller, name, leaf, dtype)
    return leaf.astype(dtype, copy=False)


def _is_column(part: Any) -> bool:
    return isinstance(part, Column)


def columns(dataset: Data) -> Columns:
    """Look at the shapes of what has rows, and refuse what has none."""
    tree, normalization = parted(dataset, "Streamed")
    sizes = {}
    for name, leaf in named_leaves(tree):
        if isinstance(leaf, np.ndarray | jax.Array) or not _is_lazy(leaf):
            check_array(name, leaf, "Streamed")
            sizes[name] = np.shape(leaf)[:1]
        else:
            sizes[name] = (len(leaf),)
    check_sizes(sizes, "Streamed")
    size = next(iter(sizes.values()))[0]
    if not size:
        raise ValueError("Streamed needs at least one example, got none.")
    tree = jax.tree_util.tree_map_with_path(lambda path, leaf: _column(path_name(path), leaf), tree)
    row = jax.tree.map(lambda column: _row(column, size), tree, is_leaf=_is_column)
    dtypes = jax.tree.map(lambda row: jax.dtypes.canonicalize_dtype(row.dtype), row)
    return Columns(tree, row, dtypes, size, normalization)


def _is_lazy(leaf: Any) -> bool:
    has_rows = hasattr(leaf, "__getitem__") and hasattr(leaf, "__len__")
    return has_rows and not isinstance(leaf, str | bytes | range | np.generic)


def _column(name: str, leaf: Any) -> Column:
    if not isinstance(leaf, np.ndarray | jax.Array):
        return Column(name, leaf, None)
    array = np.asanyarray(leaf)
    return Column(name, array, mapped_file(array))


def _row(column: Column, size: int) -> PyTree:
    """Return the shape of one row; of what is no array, by asking for two."""
    name, values, file = column
    if isinstance(values, np.ndarray):
        if file is not None:
            file.check(name)
        return jax.ShapeDtypeStruct(values.shape[1:], native(values[:0]).dtype)
    some = np.arange(min(size, 2))
    rule = "Streamed needs data that take an array of indices, data[np.array([0, 1])]"
    advice = "Batches(make_iterator, steps_per_epoch) takes a loader that goes item by item"
    kind = f"{type(values).__name__} at {name!r}"
    try:
        rows = values[some]
    except Exception as error:
        raise TypeError(f"{rule}, got {type(error).__name__} of {kind}: {advice}.") from error
    for _, part in named_leaves(rows):
        if np.shape(part)[:1] != some.shape:
            raise TypeError(f"{rule}, got shape {list(np.shape(part))} of {kind}: {advice}.")
        check_array(name, part, "Streamed")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], native(x[:0]).dtype), rows)
