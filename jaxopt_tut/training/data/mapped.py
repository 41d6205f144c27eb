"""Arrays whose pages are those of a file."""

import mmap
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

MAPPED_BYTES = 16 << 20
"""Pages of files that may have come to the process before all of one are let go of."""

ROWS_AT_ONCE = 16
"""Rows that are read before that is looked at: Linux may map 2 MB around each."""


class MappedFile:
    """The file behind an array, of which no more pages than needed are kept mapped."""

    def __init__(self, array: np.memmap, mapping: mmap.mmap):
        """Map nothing more."""
        self.array, self.mapping, self.seen = array, mapping, resident_pages()
        start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
        self.size = start + len(mapping)
        # pages of a private mapping hold what was written to them, and nothing else does
        self.can_let_go = array.mode != "c" and hasattr(mmap, "MADV_DONTNEED")

    def check(self, name: str) -> None:
        """Refuse a file that was cut: to read what is missing kills the process."""
        found = self.mapping.size()
        if found < self.size:
            file = "a file" if self.array.filename is None else Path(self.array.filename).name
            raise ValueError(
                f"Streamed needs a file as long as its array, got {file} of {found} bytes "
                f"for {self.size} at {name!r}."
            )

    def rows(
        self, array: Shaped[np.ndarray, "size ..."], indices: Int[np.ndarray, "rows"]
    ) -> Shaped[np.ndarray, "rows ..."]:
        """Read rows of a view of the file; what has come to the process is its memory."""
        if len(self.mapping) <= MAPPED_BYTES or not self.can_let_go:
            return np.take(array, indices, axis=0)
        rows = np.empty((len(indices), *array.shape[1:]), array.dtype)
        for start in range(0, len(indices), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            np.take(array, indices[some], axis=0, out=rows[some], mode="clip")
            pages = resident_pages()
            if (pages - self.seen) * mmap.PAGESIZE > MAPPED_BYTES:
                self.mapping.madvise(mmap.MADV_DONTNEED)
                pages = resident_pages()
            self.seen = min(self.seen, pages)
        return rows


def mapped_file(array: np.ndarray) -> MappedFile | None:
    """Return the file whose pages an array, or what it is a view of, consists of."""
    root, base = None, array
    while isinstance(base, np.ndarray):
        root, base = base if isinstance(base, np.memmap) else root, base.base
    if root is None or not isinstance(base, mmap.mmap):
        return None
    return MappedFile(root, base)


def resident_pages() -> int:
    """Return how many pages of files the process holds, or 0 where nobody tells."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[2])
    except OSError:
        return 0
