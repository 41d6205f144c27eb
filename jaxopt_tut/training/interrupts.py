"""Ctrl-C while buffers change hands."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Hold Ctrl-C back while a step is dispatched.

    A step donates its buffers: an exception between its dispatch and the binding of what it
    returns would lose the parameters. So the signal waits until that is done; a second one does
    not. Only the main thread gets signals, and a handler that is not Python's is left alone.
    """

    def __init__(self):
        """Do nothing before `handled`."""
        self._is_held = False
        self._pending: tuple | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a signal is held back."""
        return self._pending is not None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signal within a block."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return

        def handle(number, frame):
            if self._is_held and self._pending is None:
                self._pending = (before, number, frame)
            else:
                before(number, frame)

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the signal back within a block, and let it go at the end."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._pending is not None:
            (before, number, frame), self._pending = self._pending, None
            before(number, frame)
