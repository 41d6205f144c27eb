"""Numbers of a report as text: JSON whose short lists stand on one line, and not all of it."""

import json
from typing import Any

from experiments._reports import Report, shorten

LONGEST_LIST, LONGEST_LINE, MOST_LINES, MOST_LEVELS = 12, 500, 120, 20


def of_report(report: Report) -> str:
    """Write a report's settings, its numbers, and the versions that it ran with."""
    parts = {"config": report.config, "numbers": report.numbers, "versions": report.versions}
    return "\n\n".join(f"{key}\n{to_text(part)}" for key, part in parts.items() if part)


def to_text(value: Any) -> str:
    """Write what JSON can hold, shortened for readers.

    Args:
      value: Dictionaries, lists, numbers, strings, booleans and None.

    Returns:
      Lines; of a list the first dozen and how many there are, of all lines the first 120, and
      nothing that lies deeper than twenty levels.
    """
    # a text may have lines of its own
    lines = "\n".join(_lines(value, "")).splitlines()
    lines = [shorten(line, LONGEST_LINE) for line in lines]
    if len(lines) > MOST_LINES:
        more = len(lines) - MOST_LINES
        lines = [*lines[:MOST_LINES], f"… {more} lines more"]
    return "\n".join(lines)


def _lines(value: Any, indent: str) -> list[str]:
    if len(indent) > 2 * MOST_LEVELS and isinstance(value, dict | list):
        return [f"{indent}…"]
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _item(f"{key}:", item, indent)]
    if isinstance(value, list) and any(isinstance(item, dict | list) and item for item in value):
        shown = value[:LONGEST_LIST]
        lines = [line for item in shown for line in _item("-", item, indent)]
        more = len(value) - len(shown)
        return [*lines, *([f"{indent}… {more} more"] if more else [])]
    return [indent + _flat(value)]


def _item(head: str, value: Any, indent: str) -> list[str]:
    below = _lines(value, indent + "  ")
    if len(below) == 1:
        return [f"{indent}{head} {below[0].strip()}"]
    return [indent + head, *below]


def _flat(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        more = len(value) - LONGEST_LIST
        words = ", ".join(_flat(item) for item in value[:LONGEST_LIST])
        return f"[{words}, … {more} more]" if more > 0 else f"[{words}]"
    return json.dumps(value)
