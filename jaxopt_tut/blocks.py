"""Results as readable blocks: lines on a terminal, a table in a notebook; no pages of numbers."""

import dataclasses
import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.tracing import is_traced, known
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

__all__ = [
    "Block", "amount", "brief", "has_numbers", "in_a_line", "number", "numbers", "shown",
    "spread_of",
]  # fmt: skip

_Class = TypeVar("_Class", bound=type)
Rows = Sequence[tuple[str, str]]

_MAX_LINES = 8
"""Of one entry; the rest is counted."""

_MOST_LINES = 25
"""Of a block: what fits on a screen beside what was typed."""

_WIDTH = 80
"""Of a text in a block."""

_FEW = 20
"""Numbers that are shown all; of more there is the shape, or the ends."""

_EDGE = 3
"""Numbers shown at an end of an axis."""

_MOST_FETCHED = 10_000
"""Numbers for which it is quicker to fetch all than to compile what cuts off the ends."""

_WIDEST = 120
"""Of a line with the name beside."""

_WIDEST_NAME = 36
"""Of what stands on the left; of a longer name the ends are shown."""


class Block:
    """The base of results that print as a block, whatever they hold: numbers, tracers, shapes.

    A dataclass with `repr=False` is shown so wherever it is, with its own `repr` where it is
    printed or ends a cell of a notebook.
    """

    def _block(self) -> tuple[str, Sequence[tuple[str, str]]]:
        """Return a title, and what stands under it: names and texts, maybe of several lines."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return the title and a line or more for each entry."""
        return _as_text(*_block_of(self))

    def __str__(self) -> str:
        """Return the same."""
        return Block.__repr__(self)

    def _repr_html_(self) -> str:
        """Return a table, as notebooks show it."""
        return _as_table(*_block_of(self))


def shown(cls: _Class) -> _Class:
    """Let a `NamedTuple` or a dataclass be shown as a block, whatever its fields hold.

    In one line where that is short; else with a line or more for each field, or as
    its own `_block` says.

    Example:
      >>> from typing import NamedTuple
      >>> @shown
      ... class Found(NamedTuple):
      ...     point: Any
      ...     loss: Any
      >>> Found(np.zeros(2), {"loss": 0.25}), Found(np.zeros((30, 40)), max)
      (Found(point=[0. 0.], loss={loss: 0.25}), Found(point=float64[30,40], loss=max))
      >>> Found({name: np.zeros((30, 40)) for name in ("encoder", "decoder", "head")}, 0.25)
      Found
        point  encoder: float64[30,40], decoder: float64[30,40], head: float64[30,40]
        loss   0.25
    """
    own: Callable | None = getattr(cls, "_block", None)

    def show(self: Any) -> str:
        return _fields_as_text(self) if own is None else _as_text(*_block_of(self))

    def table(self: Any) -> str:
        return _as_table(*_block_of(self))

    cls.__repr__ = show  # type: ignore[method-assign]
    cls._repr_html_ = table  # type: ignore[attr-defined]
    return cls


def _block_of(record: Any) -> tuple[str, Rows]:
    """Return what a record says of itself, else its fields."""
    try:
        with np.errstate(all="ignore"):  # numbers that are none are shown as such
            title, rows = record._block()
        texts = [(_short(name), _without_addresses(str(text))) for name, text in rows]
        return _without_addresses(" ".join(str(title).split())), texts
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        # It says nothing; or trees of its form hold other things: axes, shapes, names, nothing.
        return type(record).__name__, _field_rows(record)


def _as_text(title: str, rows: Rows) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    lines = [title]
    for name, text in rows:
        for i, line in enumerate(text.splitlines() or [""]):
            beside = f"{name if i == 0 else '':{width}}  " if width else ""
            lines.append(f"  {beside}{line}".rstrip())
    if len(lines) > _MOST_LINES:
        more = len(lines) - _MOST_LINES + 1
        lines = [*lines[: _MOST_LINES - 1], f"  ... and {more} lines more"]
    return "\n".join(
        line if len(line) <= _WIDEST else f"{line[: _WIDEST - 4]} ..." for line in lines
    )


def _as_table(title: str, rows: Rows) -> str:
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left"><pre style="margin:0">{html.escape(text)}</pre></td></tr>'
        for name, text in rows
    )
    return f"<table><caption>{html.escape(title)}</caption><tbody>{cells}</tbody></table>"


def _fields(record: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(record, "_fields", None)
    if names is None:
        is_data = dataclasses.is_dataclass(record)
        names = (
            [field.name for field in dataclasses.fields(record) if field.repr] if is_data else []
        )
    for name in names:
        yield name, getattr(record, name)


def _fields_as_text(record: Any) -> str:
    """Return the fields in one line if that is short."""
    rows = _field_rows(record)
    braced = [
        (name, f"{{{text}}}" if isinstance(value, Mapping) else text)
        for (name, text), (_, value) in zip(rows, _fields(record), strict=True)
    ]
    line = f"{type(record).__name__}({', '.join(f'{name}={text}' for name, text in braced)})"
    return line if len(line) <= _WIDTH else _as_text(type(record).__name__, rows)


def _field_rows(record: Any) -> list[tuple[str, str]]:
    return [(name, in_a_line(value)) for name, value in _fields(record)]


def _short(name: str) -> str:
    half = _WIDEST_NAME // 2 - 2
    name = str(name).replace("\n", " ")
    return name if len(name) <= _WIDEST_NAME else f"{name[:half]} .. {name[-half:]}"


def in_a_line(value: Any) -> str:
    """Return in one line of a screen's width what something is; no address in memory."""
    if has_numbers(value):
        text = _in_a_line(value) if np.ndim(value) else number(value)
    elif value is None or isinstance(value, str | bytes):
        text = repr(value)
    elif _is_record(value):
        text = _title_of(value)
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        text = _kind(value)
    elif isinstance(value, Mapping) and all(jax.tree_util.all_leaves([x]) for x in value.values()):
        text = ", ".join(f"{name}: {in_a_line(part)}" for name, part in value.items()) or ""
    elif any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(value)):
        text = amount(value)
    elif callable(value):
        text = _name_of(value)
    else:
        text = _without_addresses(repr(value))
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 4]} ..."


def amount(tree: PyTree) -> str:
    """Return how much there is in a tree: its arrays, their numbers and their types.

    Example:
      >>> amount({"kernel": np.zeros((2, 3)), "bias": np.zeros(3)})
      '2 arrays, 9 numbers (float64)'
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    if not leaves:
        return "no arrays"
    size = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    kinds = ", ".join(dict.fromkeys(str(leaf.dtype) for leaf in leaves))
    plural = lambda count, word: f"{count:,} {word}" + ("s" if count != 1 else "")
    return f"{plural(len(leaves), 'array')}, {plural(size, 'number')} ({kinds})"


def _is_record(value: Any) -> bool:
    has_fields = dataclasses.is_dataclass(value) or hasattr(value, "_fields")
    return (has_fields or isinstance(value, Block)) and not isinstance(value, type)


def _title_of(record: Any) -> str:
    """Return the first line of a block; of another record how much it holds, if that is much."""
    if hasattr(type(record), "_repr_html_"):
        return repr(record).splitlines()[0]
    if any(np.size(leaf) > 6 for leaf in jax.tree.leaves(record) if hasattr(leaf, "dtype")):
        return f"{type(record).__name__}: {amount(record)}"
    return _without_addresses(repr(record))


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return name.replace("<locals>.", "") if name else type(function).__name__


def _without_addresses(text: str) -> str:
    """Leave out where something lies in memory: nobody reads it, and it is never the same."""
    return re.sub(r"<(?:function |bound method )?([\w.<>]+)[^<>]* at 0x[0-9a-f]+>", r"\1", text)


def has_numbers(leaf: Any) -> bool:
    """Tell whether there are numbers to be seen, without a look: an array stays where it is."""
    if isinstance(leaf, jax.Array):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        return not (is_key or is_traced(leaf) or leaf.is_deleted()) and leaf.is_fully_addressable
    return isinstance(leaf, np.ndarray | np.generic | int | float | complex)


def numbers(leaf: Any) -> np.ndarray | None:
    """Return the numbers of an array or a number, if there are any to be seen.

    Of an array on a device that is a copy of all, and a wait until it is computed: what is shown as
    a shape is asked for `has_numbers`.
    """
    return known(leaf) if has_numbers(leaf) else None


def number(value: Any) -> str:
    """Return a number in six digits, and of anything else what it is."""
    found = numbers(value) if has_numbers(value) and np.ndim(value) == 0 else None
    if found is None or found.dtype.kind not in "biuf":
        return brief(value)
    return f"{found.item():.6g}" if found.dtype.kind == "f" else str(found.item())


def spread_of(values: np.ndarray) -> str:
    """Return the least, the median and the largest of some numbers."""
    finite = np.asarray(values, float)[np.isfinite(np.asarray(values, float))]
    lost = values.size - finite.size
    if not finite.size:
        return "no finite number"
    ends = f"min {finite.min():.6g}, median {np.median(finite):.6g}, max {finite.max():.6g}"
    return ends + (f"; {lost} not finite" if lost else "")


def brief(tree: PyTree, *, only_shapes: bool = False) -> str:
    """Return a tree in a few lines: its numbers if they are few, else their ends."""
    leaves = named_leaves(tree)
    if len(leaves) == 1 and leaves[0][1] is tree:
        text = _kind(tree) if only_shapes else _array(tree)
        return _cut(text.splitlines())
    lines = [
        f"{name}: {_kind(leaf) if only_shapes else _in_a_line(leaf)}"
        for name, leaf in leaves[: _MAX_LINES + 1]
    ]
    more = len(leaves) - len(lines)
    return _cut(lines, more) if lines else repr(tree)[:_WIDTH]


def _cut(lines: list[str], more: int = 0) -> str:
    kept = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 4]} ..." for line in lines]
    if len(lines) + more > _MAX_LINES:
        kept = [*kept[: _MAX_LINES - 1], f"... and {len(lines) + more - _MAX_LINES + 1} more"]
    return "\n".join(kept)


def _array(leaf: Any) -> str:
    if not has_numbers(leaf):
        return _kind(leaf)
    is_long = np.size(leaf) > _FEW
    with jax.ensure_compile_time_eval():  # what is cut off a constant is no part of a program
        ends = _ends(leaf) if is_long else leaf
    if ends is None or np.size(ends) > _MOST_FETCHED:
        return _kind(leaf)
    shown = np.array2string(
        np.asarray(known(ends)),
        precision=4,
        threshold=0 if is_long else _FEW,
        edgeitems=_EDGE,
        max_line_width=_WIDTH - 4,
    )
    return f"{_kind(leaf)}\n{shown}" if is_long else shown


def _ends(array: Any) -> Any:
    """Cut what is not shown out of the axes of an array where it lies, but for one number.

    NumPy writes dots in the place of that. Of an array in parts on many devices there is nothing:
    they would all have to take part.
    """
    if np.size(array) <= _MOST_FETCHED:
        return array
    if isinstance(array, jax.Array):
        if not array.is_fully_replicated:
            return None
        array = array.addressable_shards[0].data
    for axis, length in enumerate(array.shape):
        if length > 2 * _EDGE + 1:
            ends = slice(_EDGE + 1), slice(length - _EDGE, length)
            parts = [array[(*[slice(None)] * axis, end)] for end in ends]
            concatenate = jnp.concatenate if isinstance(array, jax.Array) else np.concatenate
            array = concatenate(parts, axis)
    return array


def _in_a_line(leaf: Any) -> str:
    if not has_numbers(leaf) or np.size(leaf) > _FEW:
        return _kind(leaf)
    return " ".join(_array(leaf).split())


def _kind(leaf: Any) -> str:
    """Return what a leaf is: `float32[2,3]`, or the start of its text."""
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"{dtype}[{','.join(map(str, shape))}]"
    return _without_addresses(" ".join(repr(leaf).split()))[:_WIDTH]
