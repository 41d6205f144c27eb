"""Errors of functions that users give to a race, told with the place that they came from."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def faults_of(place: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise what a function raises in a sentence that names it; rarer kinds get a note."""
    try:
        yield
    except but:
        raise
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        reason = str(error).partition("\n")[0].removesuffix(".")
        raise kind(f"{place} fails: {reason}.") from error
    except Exception as error:
        error.add_note(f"{place} fails.")
        raise
