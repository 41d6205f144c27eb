"""Work done ahead of need, in a thread that ends with whoever needs it."""

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple, TypeVar

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds for which the end of the thread is waited for: what it calls may never return."""


class _End(NamedTuple):
    error: BaseException | None


def prefetched(items: Generator[T, None, None], ahead: int) -> Generator[T, None, None]:
    """Draw items in a thread, at most so many ahead; it ends with this, and its errors come here.

    An item is drawn only when there is room for it, so that `ahead` bounds the memory.
    """
    room, drawn, is_over = threading.Semaphore(ahead), queue.SimpleQueue(), threading.Event()

    def draw() -> None:
        error = None
        try:
            with closing(items):
                while room.acquire() and not is_over.is_set():
                    try:
                        drawn.put(next(items))
                    except StopIteration:
                        break
        except BaseException as raised:
            error = raised
        drawn.put(_End(error))

    thread = threading.Thread(target=draw, name="jaxopt_tut-prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := drawn.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        is_over.set()
        room.release()
        thread.join(PATIENCE)
