"""The one who writes the checkpoints of a run: opens its folder, saves in the background."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax

from jaxopt_tut.training.checkpoints import folder, processes, restoring, store
from jaxopt_tut.training.checkpoints.errors import DamagedCheckpoint
from jaxopt_tut.training.checkpoints.folder import Name
from jaxopt_tut.training.checkpoints.options import Checkpoint
from jaxopt_tut.training.checkpoints.store import Contents, Fingerprint, Stored

LOOKS = 16
"""Dispatches after which several processes ask each other whether to save: it takes a message."""


class Saver:
    """Saves when it is due, one at a time; a save that fails is a warning, and tried again."""

    def __init__(self, options: Checkpoint, caller: str, fingerprint: Fingerprint):
        """Touch nothing before `opened`."""
        self.options, self.fingerprint = options, fingerprint
        self.warnings: list[str] = []
        self.has_failed = False
        self._caller = caller
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None
        self._damaged: dict[Name, DamagedCheckpoint] = {}
        self._committed: list[int] = []
        self._time, self._step, self._number, self._looks = time.monotonic(), 0, 1, 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder within a block; at its end everything is on the disk."""
        import orbax.checkpoint  # noqa: F401  now, as it takes half a second

        with contextlib.ExitStack() as stack:
            error = None
            if processes.is_first():
                try:
                    self._open(stack)
                except (ValueError, RuntimeError) as found:
                    error = found
            self._together(error)
            stack.callback(self._pool.shutdown)
            yield
            self.finish()

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Make the folder, lock it, and remove what is half written."""
        directory = self.options.path
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not folder.is_ours(directory):
                raise ValueError(
                    f"{self._caller} needs a folder of checkpoints or an empty one, got "
                    f"{str(directory)!r} with other files: give it one of its own, such as "
                    f"{str(directory / 'checkpoints')!r}."
                )
            stack.enter_context(folder.locked(directory, self._caller))
            folder.remove_partial(directory)
            self._number = folder.next_number(directory)
        except OSError as error:
            raise self._not_writable(error) from error

    def _together(self, error: Exception | None) -> None:
        """Go on if the first process can; else raise in all of them."""
        (failed,) = processes.most(int(error is not None))
        if error is not None:
            raise error
        if failed:
            raise RuntimeError(
                f"{self._caller} cannot go on: the first process says why, about "
                f"{str(self.options.path)!r}."
            )

    def _not_writable(self, error: OSError) -> ValueError:
        return ValueError(
            f"{self._caller} needs a folder to write to, got {str(self.options.path)!r}: "
            f"{error.strerror}."
        )

    def resumed(self) -> Stored | None:
        """Return the checkpoint to go on from, None where the run begins."""
        stored, error = None, None
        if processes.is_first():
            try:
                stored = self._newest()
            except (ValueError, RuntimeError) as found:
                error = found
        self._together(error)
        (number,) = processes.most(0 if stored is None else stored.name.number)
        if number and stored is None:  # the one that the first process has found
            directory = self.options.path
            names = {name.number: name for name in folder.checkpoints_in(directory)}
            stored = store.read(directory, names[number])
        return stored

    def _newest(self) -> Stored | None:
        """Return the newest checkpoint that is whole and of this run, if the run is to resume."""
        directory, resume = self.options.path, self.options.resume
        names = folder.checkpoints_in(directory)
        if not names:
            if resume == "must":
                raise ValueError(
                    f"{self._caller} needs a checkpoint with resume='must', got none in "
                    f"{str(directory)!r}."
                )
            return None
        if resume == "never":
            raise ValueError(
                f"{self._caller} needs a folder without checkpoints with resume='never', got one "
                f"at step {names[0].step} in {str(directory)!r}."
            )
        stored, self._damaged = restoring.newest(directory, self._caller)
        self._compare(stored)
        return stored

    def accept(self, stored: Stored) -> None:
        """Go on from a checkpoint, which fits: those that are damaged are in the way no more."""
        for name, error in self._damaged.items():  # of the first process, which has looked
            aside = folder.set_aside(self.options.path, name)
            self._warn(
                f"{self._caller} resumes from step {stored.name.step}: {error}; it is kept as "
                f"{aside.name!r}."
            )
        self._step = stored.name.step

    def warn_of_stop(self) -> None:
        """Say that a run is over that could not go on, whatever it would be trained with now."""
        self._warn(
            f"{self._caller} resumed a run that had stopped at step {self._step} because something "
            "was not finite, and trains it no further: with another optimizer or loss give it a "
            f"folder of its own, got {str(self.options.path)!r}."
        )

    def _compare(self, stored: Stored) -> None:
        """Refuse the folder of another run."""
        for name, ours in self.fingerprint.items():
            theirs = stored.fingerprint.get(name)
            if ours != theirs:
                differs = f"{theirs}, not {ours}" if isinstance(ours, int | bool) else "another one"
                raise ValueError(
                    f"{self._caller} needs the folder of this run, got "
                    f"{str(self.options.path)!r} of one whose {name} is {differs}."
                )

    def look(self, step: int, number: int | None) -> tuple[bool, int | None]:
        """Tell whether to save after so many steps, and which signal has come, all alike.

        By the clock nothing is saved while one is still written.
        """
        seconds, steps = self.options.every_seconds, self.options.every_steps
        # multiples, so that a run that was resumed saves where it would have
        is_due = steps is not None and step // int(steps) > self._step // int(steps)
        is_idle = self._running is None or self._running.done()
        is_time = seconds is not None and time.monotonic() - self._time >= float(seconds)
        is_time = is_time and is_idle and processes.is_first()
        if jax.process_count() > 1:
            self._looks += 1
            if self._looks % LOOKS and not is_due:
                return False, None
        number, is_time = processes.most(number or 0, int(is_time))
        return bool(is_due or is_time or number), number or None

    def save(self, step: int, contents: Callable[[], Contents]) -> None:
        """Save in the background what is on the device in arrays that nobody donates."""
        self._collect()
        self._time, self._step = time.monotonic(), step
        found = contents()
        found = found._replace(trees=processes.whole(found.trees))
        if processes.is_first():
            name, self._number = Name(self._number, step), self._number + 1
            self._running = self._pool.submit(self._write, name, found)

    def finish(self) -> None:
        """Wait until the last save is done."""
        self._collect()

    def _write(self, name: Name, contents: Contents) -> None:
        store.write(self.options.path, name, contents)
        self._committed.append(name.step)
        folder.prune(self.options.path, int(self.options.keep))

    def described_last(self) -> str:
        """Say where a run would go on from now."""
        names = folder.checkpoints_in(self.options.path)
        if not names:
            return f"nothing was saved in {str(self.options.path)!r}"
        at = f"step {names[0].step} or later"  # one that is being written may be whole in a moment
        return f"they resume from {at}, saved in {str(self.options.path)!r}"

    def committed(self) -> list[int]:
        """Return the steps that were committed since it was asked."""
        done, self._committed = self._committed, []
        return done

    def _collect(self) -> None:
        """Wait for the save before, and say what went wrong with it."""
        running, self._running = self._running, None
        if running is None:
            return
        self.has_failed = False
        try:
            running.result()
        except OSError as error:
            self.has_failed = True
            self._warn(
                f"{self._caller} could not save step {self._step} in "
                f"{str(self.options.path)!r}: {error.strerror or error}. The next save tries again."
            )

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        warnings.warn(message, stacklevel=2)
