"""What `fit` tells while it runs, and a log of it that survives a kill."""

import csv
import io
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.training.loop import Loop

EventKind = TypeAliasType(
    "EventKind", Literal["start", "resume", "epoch", "checkpoint", "warning", "stop", "end"]
)
"""What happened; `Event` has a line on each."""


@shown
class Event(NamedTuple):
    """Something that happened in a run of `fit`, told to `fit(..., on_event=)`.

    In this order:

    * `"start"` or, of a run that goes on from a checkpoint, `"resume"`: before the first step.
    * `"epoch"`: an epoch is over and evaluated; `metrics` has what is known of it. An epoch that
      ends at a step that cannot be taken, or by Ctrl-C, is no such event.
    * `"checkpoint"`: a checkpoint is committed. `"warning"`: `message` says what went wrong, while
      training goes on.
    * `"stop"`: training ends before the last epoch; `message` says why.
    * `"end"`: the last one, unless an exception ends the run; `message` is the result's.
    """

    kind: EventKind
    epoch: int
    """Epochs that are over, those before a resume included."""
    step: int
    """Steps taken, those before a resume included."""
    metrics: dict[str, float]
    """Of an epoch: the mean loss and metrics of its steps, and `"validation_..."` for each number
    that `evaluate` returned; else empty."""
    seconds: float
    """Since this call of `fit` began to train."""
    message: str = ""


OnEvent = TypeAliasType("OnEvent", Callable[[Event], Any])
"""A function of an `Event`; what it returns is dropped."""


class Announcer:
    """Tells the events of a run to the user's function, in the first process alone."""

    def __init__(self, on_event: OnEvent | None, loop: Loop):
        """Start the clock."""
        self._on_event = on_event if jax.process_index() == 0 else None
        self._loop, self._start = loop, time.monotonic()

    def __call__(
        self,
        kind: EventKind,
        metrics: Mapping[str, float] | None = None,
        message: str = "",
        *,
        step: int | None = None,
        epoch: int | None = None,
    ) -> None:
        """Call the function, of now or of a step before; what it raises is the run's."""
        if self._on_event is None:
            return
        if step is None:
            steps_before = max(self._loop.epoch, 0) * self._loop.num_steps
            step = steps_before + int(self._loop.carry.step)
        epoch = step // self._loop.num_steps if epoch is None else epoch
        seconds = time.monotonic() - self._start
        self._on_event(Event(kind, epoch, step, dict(metrics or {}), seconds, message))


_OWN_COLUMNS = ("epoch", "step", "seconds")


def csv_log(path: str | os.PathLike[str]) -> OnEvent:
    """Write a row an epoch to a file of comma-separated values.

    The columns are `epoch`, `step`, `seconds` (since this call of `fit`) and the metrics in their
    full precision; a metric of one of those three names is written as `metric_epoch`, say. When a
    run starts or resumes, the rows of epochs it has not done yet are dropped: after a kill no row
    is doubled. A run that starts therefore empties the log of the one before: give each its own.
    A row is written as soon as the epoch is over, and the file is replaced as a whole where more
    than a row changes, as when a metric turns up later; it is empty in the rows before.

    Args:
      path: The file; folders that are missing are made.

    Returns:
      A function for `fit(..., on_event=)`.

    Raises:
      TypeError: If `path` is none.
      ValueError: When the run starts, if there is a folder, or a file whose first columns are
        others than those three; it is left as it is.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp(), "log.csv")
      >>> log = csv_log(path)
      >>> log(Event("start", 0, 0, {}, 0.0))
      >>> for epoch in (1, 2):
      ...     log(Event("epoch", epoch, 8 * epoch, {"loss": 2.0**-epoch}, 1.0))
      >>> log(Event("resume", 1, 11, {}, 0.0))  # the second epoch is done once more
      >>> log(Event("epoch", 2, 16, {"loss": 0.25, "validation_loss": 0.5}, 1.0))
      >>> print(path.read_text(), end="")
      epoch,step,seconds,loss,validation_loss
      1,8,1.0,0.5,
      2,16,1.0,0.25,0.5
    """
    if isinstance(path, Event):
        raise TypeError("fit needs csv_log(path) as on_event, got csv_log itself.")
    file = Path(os.fspath(path))

    def on_event(event: Event) -> None:
        if event.kind in ("start", "resume"):
            _begin(file, event.epoch)
        elif event.kind == "epoch":
            _add(file, event)

    return on_event


def _begin(file: Path, epoch: int) -> None:
    """Keep the rows of the epochs that are over, and start a file where there is none."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file is in the way, or it is not ours to write
        raise ValueError(
            f"csv_log needs a folder to write to, got {str(file.parent)!r}: {error.strerror}."
        ) from error
    table = _read(file)
    rows = [row for row in table[1:] if int(row[0]) <= epoch]
    _replace(file, [table[0] if rows else list(_OWN_COLUMNS), *rows])


def _add(file: Path, event: Event) -> None:
    """Append the row of an epoch, or write the file anew with its new columns."""
    values = {"epoch": event.epoch, "step": event.step, "seconds": event.seconds}
    for name, value in event.metrics.items():
        values[f"metric_{name}" if name in _OWN_COLUMNS else name] = value
    header = []
    if file.exists():  # someone may have moved it away
        with file.open(encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream), header)
    columns = list(dict.fromkeys([*header, *values]))
    row = [str(values.get(name, "")) for name in columns]
    if columns == header:
        with file.open("a", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerow(row)
    else:
        padding = [""] * (len(columns) - len(header))
        _replace(file, [columns, *(old + padding for old in _read(file)[1:]), row])


def _read(file: Path) -> list[list[str]]:
    """Read header and rows, without those that were cut off; nothing if there is no file."""
    if file.is_dir():
        raise ValueError(f"csv_log needs a file, got {str(file)!r}, which is a folder.")
    text = file.read_bytes().decode(errors="replace") if file.exists() else ""
    first = text.partition("\n")[0].rstrip("\r").split(",")
    if text and tuple(first[: len(_OWN_COLUMNS)]) != _OWN_COLUMNS:
        raise ValueError(
            f"csv_log needs a file of its own, got {str(file)!r}, which begins with {text[:40]!r}."
        )
    table = list(csv.reader(io.StringIO(text, newline="")))
    if not text.endswith("\n"):
        del table[-1:]
    whole = [row for row in table[1:] if len(row) == len(table[0]) and row[0].isdigit()]
    return [*table[:1], *whole]


def _replace(file: Path, table: Iterable[list[str]]) -> None:
    """Write a file beside it first: at any time there is the old one or the new one."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(table)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
