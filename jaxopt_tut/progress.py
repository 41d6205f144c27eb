"""How far a run is: one line that is rewritten on a terminal, and a line an epoch elsewhere."""

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["ProgressLine"]


class ProgressLine:
    """Say on the standard error how far a run is, after each epoch.

    A terminal shows one line that is rewritten; a file or a notebook gets a line each time.
    """

    def __init__(
        self, num_epochs: int, *, enabled: bool, unit: str = "epoch", resumed: float = 0.0
    ):
        """Start the clock; `enabled=False`, or no standard error, makes every call do nothing.

        The epochs from which a run resumes took none of its time.
        """
        self._num_epochs, self._unit, self._resumed = num_epochs, unit, resumed
        self._terminal, self._is_terminal = _stream() if enabled else (None, False)
        self._start = time.monotonic()

    def show(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show the state after epoch `epoch` (counted from 1)."""
        if self._terminal is None:
            return
        elapsed = time.monotonic() - self._start
        taken = epoch - self._resumed
        left = f"{elapsed / taken * (self._num_epochs - epoch):.0f} s" if taken else "?"
        done = 20 * epoch // self._num_epochs
        bar = "█" * done + "·" * (20 - done)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if not self._is_terminal:
            parts = [f"{self._unit} {epoch}/{self._num_epochs}", numbers, f"{left} left"]
            self._write("  ".join(filter(None, parts)) + "\n")
            return
        head, tail = f"{bar} {self._unit} {epoch}/{self._num_epochs}  ", f"  {left} left"
        # a line that is wrapped is not rewritten; the last column is the cursor's
        room = _width(self._terminal) - 1
        line = (head + numbers[: max(room - len(head) - len(tail), 0)] + tail)[: max(room, 0)]
        self._write(f"\r{line}\033[K")

    def close(self) -> None:
        """End the line."""
        if self._is_terminal:
            self._write("\n")

    def _write(self, text: str) -> None:
        """Write to the terminal, in letters that it has, as long as there is one."""
        if self._terminal is None:
            return
        encoding = getattr(self._terminal, "encoding", None) or "utf-8"
        try:
            self._terminal.write(text.encode(encoding, "replace").decode(encoding))
            self._terminal.flush()
        except (OSError, ValueError):  # it was closed: no reason to end a run
            self._terminal = None


def _stream() -> tuple[Any, bool]:
    """Return the standard error, if there is one that is open, and whether it is a terminal."""
    try:
        return sys.stderr, sys.stderr.isatty()
    except (AttributeError, OSError, ValueError):
        return None, False


def _width(terminal: Any) -> int:
    """Return the columns of a terminal."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80
