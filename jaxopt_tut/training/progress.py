"""One line on a terminal that says how far a run is; silent anywhere else."""

import sys
import time
from collections.abc import Mapping


class ProgressLine:
    """Rewrite one line of the standard error after each epoch, if that is a terminal."""

    def __init__(self, num_epochs: int, *, enabled: bool):
        """Start the clock; `enabled=False`, or no terminal, makes every call do nothing."""
        self._num_epochs = num_epochs
        self._enabled = enabled and sys.stderr.isatty()
        self._start = time.monotonic()

    def show(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show the state after epoch `epoch` (counted from 1)."""
        if not self._enabled:
            return
        elapsed = time.monotonic() - self._start
        left = elapsed / epoch * (self._num_epochs - epoch)
        done = 20 * epoch // self._num_epochs
        bar = "█" * done + "·" * (20 - done)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        line = f"\r{bar} epoch {epoch}/{self._num_epochs}  {numbers}  {left:.0f} s left\033[K"
        sys.stderr.write(line)
        sys.stderr.flush()

    def close(self) -> None:
        """End the line."""
        if self._enabled:
            sys.stderr.write("\n")
