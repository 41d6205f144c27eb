"""Where, when and with what right a run is saved."""

import dataclasses
import math
import os
import signal as signals_of_python
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, SupportsFloat

from jaxopt_tut.training.scalars import Count, as_count

RESUME = ("auto", "must", "never")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Save a run while it goes on, so that it can be taken up where it was killed.

    A resumed run equals the undisturbed one bit for bit, on the same number of devices: parameters,
    states, best parameters, history and the order of the examples. What is saved is copied on the
    device and written in the background; a folder is one run's, and one process's at a time. The
    end of a run is saved in any case; what Ctrl-C leaves, or an exception, is not, and the run
    resumes from the last save before it.

    Args:
      directory: The folder of the run, made where there is none. It has to be empty, or to hold
        checkpoints.
      every_seconds: Seconds from one save to the next; None saves by steps alone.
      every_steps: Steps from one save to the next, to be seen at the end of a dispatch; None saves
        by the clock alone. With both, whichever is due first: by the clock nothing waits for a save
        that is still being written, by steps the next one does. With neither, the end alone is
        saved, and what `signals` leave.
      keep: Checkpoints that stay, the newest.
      resume: `"auto"` resumes if there is a checkpoint, `"must"` raises if there is none, and
        `"never"` if there is one: nothing is overwritten.
      signals: Signals upon which a run saves and exits with 128 + their number, such as
        `signal.SIGTERM`, by which a scheduler announces the end.

    Raises:
      TypeError: If `directory` is no path, a number none, or a signal no signal.
      ValueError: If an interval is not positive, `keep` < 1, or `resume` is not one of the three.

    Example:
      >>> Checkpoint("run", every_steps=1000, keep=3).resume
      'auto'
      >>> Checkpoint("run", every_seconds=0)
      Traceback (most recent call last):
      ...
      ValueError: Checkpoint needs every_seconds > 0, got every_seconds=0.
    """

    directory: str | os.PathLike[str]
    _: dataclasses.KW_ONLY
    every_seconds: SupportsFloat | None = 60.0
    every_steps: Count | None = None
    keep: Count = 2
    resume: Literal["auto", "must", "never"] = "auto"
    signals: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; numbers become Python's."""
        if not isinstance(self.directory, str | os.PathLike) or not os.fspath(self.directory):
            raise TypeError(
                f"Checkpoint needs a path as directory, got directory={self.directory!r}."
            )
        if self.every_seconds is not None:
            seconds = self.every_seconds
            if isinstance(seconds, bool) or not isinstance(seconds, SupportsFloat):
                raise TypeError(
                    f"Checkpoint needs a number as every_seconds, got every_seconds={seconds!r}."
                )
            if not (float(seconds) > 0 and math.isfinite(float(seconds))):
                raise ValueError(
                    f"Checkpoint needs every_seconds > 0, got every_seconds={seconds!r}."
                )
            object.__setattr__(self, "every_seconds", float(seconds))
        for name in ("every_steps", "keep"):
            value = getattr(self, name)
            if value is None and name == "every_steps":
                continue
            count = as_count("Checkpoint", name, value)
            if count < 1:
                raise ValueError(f"Checkpoint needs {name} >= 1, got {name}={count}.")
            object.__setattr__(self, name, count)
        if self.resume not in RESUME:
            raise ValueError(
                f"Checkpoint needs resume 'auto', 'must' or 'never', got resume={self.resume!r}."
            )
        object.__setattr__(self, "signals", _as_signals(self.signals))

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.directory).expanduser().absolute()


def _as_signals(given: Any) -> tuple[int, ...]:
    """Make a tuple of signals that a handler can be set for; Ctrl-C has one already."""
    try:
        numbers = tuple(signals_of_python.Signals(one) for one in given)
    except (TypeError, ValueError):
        raise TypeError(
            "Checkpoint needs signals of the module signal, such as signals=(signal.SIGTERM,), "
            f"got signals={given!r}."
        ) from None
    for one in numbers:
        if one.name in ("SIGINT", "SIGKILL", "SIGSTOP"):
            why = "is Ctrl-C, upon which fit returns" if one.name == "SIGINT" else "has no handler"
            raise ValueError(f"Checkpoint needs signals other than {one.name}, which {why}.")
    return numbers


def as_checkpoint(caller: str, given: Any) -> Checkpoint | None:
    """Make a `Checkpoint` of a path."""
    if given is None or isinstance(given, Checkpoint):
        return given
    if isinstance(given, str | os.PathLike) and os.fspath(given):
        return Checkpoint(given)
    raise TypeError(f"{caller} needs a Checkpoint or a path as checkpoint, got {given!r}.")
