"""Numbers as people read them: columns that line up, and no more lines than a screen has."""

import math
import textwrap
from collections.abc import Sequence

Rows = list[tuple[str, str]]

MOST_ROWS = 12
MOST_COLUMNS = 7


def number(value: float) -> str:
    """Write a number with three digits, and "never" for a time that is infinite."""
    if math.isinf(value):
        return "never"
    return "-" if math.isnan(value) else f"{value:.0f}" if 100 <= value < 1e5 else f"{value:.3g}"


def interval(low: float, high: float) -> str:
    """Write an interval."""
    return f"{number(low)} to {number(high)}"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Line up the rows under their header, the first column on the left; leave out what is many."""
    kept = [list(row[:MOST_COLUMNS]) for row in (header, *rows[:MOST_ROWS])]
    if len(header) > MOST_COLUMNS:
        for row in kept:
            row.append("…")
    kept = [[cell if len(cell) <= 24 else cell[:23] + "…" for cell in row] for row in kept]
    widths = [max(map(len, cells)) for cells in zip(*kept, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in kept
    ]
    return lines + ([f"… and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else [])


def counted(count: int, word: str) -> str:
    """Return how many of something there are."""
    return f"{count} {word}" + ("s" if count != 1 else "")


def listed(names: Sequence[str], most: int = 4) -> str:
    """Name some things, and count those that are too many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def page(
    lead: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Return the rows of a block: what a table shows, the table, what is to be known about it."""
    texts = [*_wrapped(lead), *(columns(header, rows) if rows else [])]
    return [("", "\n".join(texts)), *(("", "\n".join(_wrapped(note))) for note in notes[:6])]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 96)
