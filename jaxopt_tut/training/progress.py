"""One line on a terminal that says how far a run is; silent anywhere else."""

import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO


class ProgressLine:
    """Rewrite one line of the standard error after each epoch, if that is a terminal."""

    def __init__(
        self, num_epochs: int, *, enabled: bool, unit: str = "epoch", resumed: float = 0.0
    ):
        """Start the clock; `enabled=False`, or no terminal, makes every call do nothing.

        The epochs from which a run resumes took none of its time.
        """
        self._num_epochs, self._unit, self._resumed = num_epochs, unit, resumed
        self._terminal = _terminal() if enabled else None
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
        head, tail = f"{bar} {self._unit} {epoch}/{self._num_epochs}  ", f"  {left} left"
        # a line that is wrapped is not rewritten; the last column is the cursor's
        room = _width(self._terminal) - 1
        line = (head + numbers[: max(room - len(head) - len(tail), 0)] + tail)[: max(room, 0)]
        self._write(f"\r{line}\033[K")

    def close(self) -> None:
        """End the line."""
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


def _terminal() -> TextIO | None:
    """Return the standard error if it is a terminal: there may be none, or one that is closed."""
    try:
        return sys.stderr if sys.stderr.isatty() else None
    except (AttributeError, OSError, ValueError):
        return None


def _width(terminal: TextIO) -> int:
    """Return the columns of a terminal."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80
