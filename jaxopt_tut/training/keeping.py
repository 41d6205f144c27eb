"""When a run is saved, what it says of that, and how a signal ends it."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxopt_tut.training.checkpoints import processes
from jaxopt_tut.training.checkpoints.saver import Saver
from jaxopt_tut.training.checkpoints.store import Contents
from jaxopt_tut.training.events import Announcer
from jaxopt_tut.training.run_state import Run, Stage


class Keeper:
    """Saves a run where it is whole, if it is to be saved at all."""

    def __init__(self, saver: Saver | None, run: Run, announce: Announcer):
        """Load nothing yet."""
        self._saver, self._run, self._announce = saver, run, announce
        self._signals = Signals(() if saver is None else saver.options.signals)
        self._saved: tuple[int, Stage] | None = None
        self._num_told = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong with saving or reading."""
        return () if self._saver is None else tuple(self._saver.warnings)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look after each dispatch, and handle the signals, within a block."""
        if self._saver is not None:
            self._run.loop.after_dispatch = self._after_dispatch
        with self._signals.handled():
            yield

    def resume(self, num_epochs: int) -> int | None:
        """Take up the run, and return how many steps it has taken, None if it begins."""
        stored = None if self._saver is None else self._saver.resumed()
        if self._saver is None or stored is None:
            return None
        epochs = stored.rest["epoch"] + 1
        if epochs > num_epochs:
            raise ValueError(
                f"fit needs num_epochs >= {epochs} to resume from {str(stored.path)!r}, which is "
                f"in that epoch, got num_epochs={num_epochs}."
            )
        self._run.load(stored, f"the checkpoint {str(stored.path)!r}")
        self._saver.accept(stored)
        if self._run.stage == "over":
            self._saved = self._run.loop.epoch, "over"
            if not self._run.loop.carry.alive:
                self._saver.warn_of_stop()
        return self._run.steps_taken

    def announce_start(self, resumed_from: int | None) -> None:
        """Announce that the run starts, or resumes, and what was wrong with its folder."""
        kind = "start" if resumed_from is None else "resume"
        self._announce(kind, epoch=self._run.num_epochs_over)
        if self._saver is not None:
            self._tell()

    def between_stages(self, stage: Stage) -> None:
        """Go on to a stage, and look whether to save."""
        self._run.stage = stage
        if self._saver is not None:
            loop = self._run.loop
            self._after_dispatch((loop.epoch + 1) * loop.num_steps)

    def finish(self, *, is_whole: bool) -> None:
        """Save the end of the run, if it is one to go on from, and wait for all there is to save.

        What Ctrl-C leaves is none: it may have come in the middle of anything on the host.
        """
        if self._saver is None:
            return
        self._saver.finish()
        is_saved = self._saved == (self._run.loop.epoch, "over") and not self._saver.has_failed
        is_missing = is_whole and self._run.loop.epoch >= 0 and not is_saved
        if processes.most(int(is_missing)) == (1,):
            self._run.stage = "over"
            self._save(self._run.steps_taken)
        self._saver.finish()
        self._tell()

    def _after_dispatch(self, steps: int) -> None:
        """Save if it is due, at the latest where a signal ends the run."""
        assert self._saver is not None
        is_due, number = self._saver.look(steps, self._signals.received)
        if is_due:
            self._save(steps)
        if number is not None:
            self._saver.finish()
            self._tell()
            raise SystemExit(128 + number)
        self._tell()

    def _save(self, steps: int) -> None:
        assert self._saver is not None
        run = self._run
        contents = lambda: Contents(run.trees(), run.rest(steps), self._saver.fingerprint)  # pyright: ignore[reportOptionalMemberAccess]
        self._saver.save(steps, contents)
        self._saved = run.loop.epoch, run.stage

    def _tell(self) -> None:
        """Announce what was committed since, and what went wrong."""
        assert self._saver is not None
        for step in self._saver.committed():
            self._announce("checkpoint", step=step)
        for message in self._saver.warnings[self._num_told :]:
            self._num_told += 1
            self._announce("warning", message=message)


class Signals:
    """Notes the first signal; a second one does what it would have done."""

    def __init__(self, numbers: Sequence[int]):
        """Handle nothing before `handled`."""
        self.received: int | None = None
        self._numbers = numbers

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals within a block; only the main thread gets any."""
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in self._numbers}

        def handle(number: int, _frame: Any) -> None:
            self.received = number
            signal.signal(number, before[number] or signal.SIG_DFL)

        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
