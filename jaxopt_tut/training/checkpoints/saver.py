"""The one who writes the checkpoints of a run: opens its folder, saves in the background."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from jaxopt_tut.training.checkpoints import folder, restoring, store
from jaxopt_tut.training.checkpoints.errors import DamagedCheckpoint
from jaxopt_tut.training.checkpoints.folder import Name
from jaxopt_tut.training.checkpoints.options import Checkpoint
from jaxopt_tut.training.checkpoints.store import Contents, Fingerprint, Stored


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
        self._time, self._step, self._number = time.monotonic(), 0, 1

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder within a block; at its end everything is on the disk."""
        import orbax.checkpoint  # noqa: F401  now, as it takes half a second

        directory = self.options.path
        try:
            directory.mkdir(parents=True, exist_ok=True)
            is_ours = folder.is_ours(directory)
        except OSError as error:
            raise self._not_writable(error) from error
        if not is_ours:
            raise ValueError(
                f"{self._caller} needs a folder of checkpoints or an empty one, got "
                f"{str(directory)!r} with other files: give it one of its own, such as "
                f"{str(directory / 'checkpoints')!r}."
            )
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(folder.locked(directory, self._caller))
                folder.remove_partial(directory)
                self._number = folder.next_number(directory)
            except OSError as error:
                raise self._not_writable(error) from error
            stack.callback(self._pool.shutdown)
            yield
            self.finish()

    def _not_writable(self, error: OSError) -> ValueError:
        return ValueError(
            f"{self._caller} needs a folder to write to, got {str(self.options.path)!r}: "
            f"{error.strerror}."
        )

    def resumed(self) -> Stored | None:
        """Return the checkpoint to go on from, None where the run begins."""
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
        for name, error in self._damaged.items():
            aside = folder.set_aside(self.options.path, name)
            self._warn(
                f"{self._caller} resumes from step {stored.name.step}: {error}; it is kept as "
                f"{aside.name!r}."
            )
        self._step = stored.name.step

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

    def is_due(self, step: int) -> bool:
        """Tell whether to save after so many steps; by the clock not while one is still written."""
        seconds, steps = self.options.every_seconds, self.options.every_steps
        # multiples, so that a run that was resumed saves where it would have
        if steps is not None and step // int(steps) > self._step // int(steps):
            return True
        is_idle = self._running is None or self._running.done()
        return is_idle and seconds is not None and time.monotonic() - self._time >= float(seconds)

    def save(self, step: int, contents: Callable[[], Contents]) -> None:
        """Save in the background what is on the device in arrays that nobody donates."""
        self._collect()
        self._time, self._step = time.monotonic(), step
        name, self._number = Name(self._number, step), self._number + 1
        self._running = self._pool.submit(self._write, name, contents())

    def finish(self) -> None:
        """Wait until the last save is done."""
        self._collect()

    def _write(self, name: Name, contents: Contents) -> None:
        store.write(self.options.path, name, contents)
        self._committed.append(name.step)
        folder.prune(self.options.path, int(self.options.keep))

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
