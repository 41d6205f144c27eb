"""Other processes of a run, and what is said when one of them is gone."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

_LOST = re.compile(
    r"^[A-Z_]+: .*(gloo|nccl|connection|socket|coordination|heartbeat|peer)", re.I | re.S
)
"""How XLA reports a collective operation that someone left; some come as a ValueError."""


@contextmanager
def watched(resume_from: Callable[[], str]) -> Iterator[None]:
    """Say at once, within a block, that another process is gone, and from where to go on.

    JAX ends a process whose coordinator is gone a second later, whatever it does: so it is
    written before anything is raised.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _LOST.match(str(error)):
            raise
        message = f"fit lost another process: start all of them again; {resume_from()}."
        print(message, file=sys.stderr, flush=True)
        raise RuntimeError(message) from error
