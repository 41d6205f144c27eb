"""Results as readable blocks: lines on a terminal, a table in a notebook; no pages of numbers."""

import html
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.tracing import is_traced, known
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

__all__ = ["Block", "brief", "number", "numbers", "spread_of"]

_MAX_LINES = 8
"""Of one entry; the rest is counted."""

_WIDTH = 80


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
        title, rows = self._block()
        width = max((len(name) for name, _ in rows), default=0)
        lines = [title]
        for name, text in rows:
            for i, line in enumerate(text.splitlines() or [""]):
                lines.append(f"  {name if i == 0 else '':{width}}  {line}".rstrip())
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the same."""
        return Block.__repr__(self)

    def _repr_html_(self) -> str:
        """Return a table, as notebooks show it."""
        title, rows = self._block()
        cells = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left"><pre style="margin:0">{html.escape(text)}</pre></td></tr>'
            for name, text in rows
        )
        return f"<table><caption>{html.escape(title)}</caption><tbody>{cells}</tbody></table>"


def numbers(leaf: Any) -> np.ndarray | None:
    """Return the numbers of an array or a number, if there are any to be seen."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex):
        return None
    if isinstance(leaf, jax.Array):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        return None if is_key or is_traced(leaf) or leaf.is_deleted() else known(leaf)
    return np.asarray(leaf)


def number(value: Any) -> str:
    """Return a number in six digits, and of anything else what it is."""
    found = numbers(value)
    if found is None or found.ndim or found.dtype.kind not in "biuf":
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
    found = numbers(leaf)
    if found is None:
        return _kind(leaf)
    shown = np.array2string(
        found, precision=4, threshold=20, edgeitems=3, max_line_width=_WIDTH - 4
    )
    return f"{_kind(leaf)}\n{shown}" if found.size > 20 else shown


def _in_a_line(leaf: Any) -> str:
    found = numbers(leaf)
    if found is None or found.size > 20:
        return _kind(leaf)
    return " ".join(_array(leaf).split())


def _kind(leaf: Any) -> str:
    """Return what a leaf is: `float32[2,3]`, or the start of its text."""
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"{dtype}[{','.join(map(str, shape))}]"
    return " ".join(repr(leaf).split())[:_WIDTH]
