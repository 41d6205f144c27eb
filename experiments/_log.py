"""What a script prints goes to a file; beside it to the terminal, if somebody looks on."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

LOG = "log.txt"
CUT = 141
"""The exit code, as a shell tells it, of a program that nobody listens to any more."""


@contextlib.contextmanager
def until_cut() -> Iterator[None]:
    """End in silence when what reads the output has seen enough, as `head` has after its lines.

    Raises:
      SystemExit: With code 141, if so.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CUT) from None


@contextlib.contextmanager
def log_output(file: Path, *, show: bool) -> Iterator[TextIO]:
    """Write everything that is printed inside to a file, and show it too if `show`.

    What is not shown is caught below Python, for XLA is C++ and prints without asking it.
    """
    # line by line, so that a process that is killed leaves what it said
    with file.open("w", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        out = _Tee(sys.stdout, log) if show else log
        err = _Tee(sys.stderr, log) if show else log
        below = contextlib.nullcontext() if show else _redirect_descriptors(log)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), below:
            yield log


@contextlib.contextmanager
def _redirect_descriptors(log: TextIO) -> Iterator[None]:
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in kept:
            os.dup2(log.fileno(), number)
        yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


class _Tee:
    """A stream that writes to a log as well; all else is asked of the stream itself."""

    def __init__(self, stream: TextIO, log: TextIO):
        self._stream, self._log = stream, log

    def write(self, text: str) -> int:
        if not text.startswith("\r"):  # a progress line is for a terminal alone
            self._log.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def last_lines(file: Path, count: int = 12) -> str:
    """Return the end of a log, or nothing if there is none."""
    if not file.exists():
        return ""
    return "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
