"""The devices of a sweep: chunks on each of them by itself, and agreement between processes."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxopt_tut.training.sweeps.settings import Settings

Leaves = list[np.ndarray]


class Devices:
    """Those along the first axis of a mesh; without one that which JAX takes."""

    def __init__(self, mesh: Mesh | None):
        """Take the first device of each row."""
        self.mesh = mesh and Mesh(
            mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim
        )
        self.all: list[Any] = [None]
        if mesh is not None:
            self.all = list(mesh.devices.reshape(len(mesh.devices), -1)[:, 0])
        self.is_shared = mesh is not None and mesh.is_multi_process

    @property
    def own(self) -> list[Any]:
        """Those of this process."""
        return [d for d in self.all if d is None or d.process_index == jax.process_index()]

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return not self.is_shared or jax.process_index() == 0

    def each(self, job: Callable[[Any], Any]) -> list[Any]:
        """Do something for each device of this process, at once."""
        own = self.own
        if len(own) == 1:
            return [job(own[0])]
        settings = Settings.here()
        with ThreadPoolExecutor(len(own)) as pool:
            return list(pool.map(lambda device: _under(settings, job, device), own))

    def run(
        self, chunks: Sequence[int], job: Callable[[int, Any], Leaves]
    ) -> Iterator[tuple[int, Leaves]]:
        """Run chunks, each on the device that is free, and yield what comes as it comes."""
        if self.is_shared:
            yield from self._in_rounds(chunks, job)
        elif len(self.all) == 1:
            yield from ((chunk, job(chunk, self.all[0])) for chunk in chunks)
        else:
            yield from self._in_threads(chunks, job)

    def _in_threads(
        self, chunks: Sequence[int], job: Callable[[int, Any], Leaves]
    ) -> Iterator[tuple[int, Leaves]]:
        free, settings = SimpleQueue(), Settings.here()
        for device in self.all:
            free.put(device)

        def on_free_device(chunk: int) -> Leaves:
            device = free.get()
            try:
                return _under(settings, job, chunk, device)
            finally:
                free.put(device)

        with ThreadPoolExecutor(len(self.all)) as pool:
            futures = {pool.submit(on_free_device, chunk): chunk for chunk in chunks}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                for future in futures:
                    future.cancel()

    def _in_rounds(
        self, chunks: Sequence[int], job: Callable[[int, Any], Leaves]
    ) -> Iterator[tuple[int, Leaves]]:
        """Run a chunk a device and hand all to all processes, which have to come here together."""
        num = len(self.all)
        for first in range(0, len(chunks), num):
            now = chunks[first : first + num]
            jobs = {device: now[min(row, len(now) - 1)] for row, device in enumerate(self.all)}
            own = self.each(lambda device, jobs=jobs: job(jobs[device], device))
            parts = [self.gathered(rows) for rows in zip(*own, strict=True)]
            yield from ((chunk, [leaf[row] for leaf in parts]) for row, chunk in enumerate(now))

    def gathered(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Put together an array a device, of this process and of the others."""
        assert self.mesh is not None
        places = [row for row, device in enumerate(self.all) if device in self.own]
        # as bytes, which come through any network as they are; they are not empty in any
        as_bytes = [np.frombuffer(row.tobytes() + b"0", np.uint8) for row in rows]
        words = dict(zip(places, as_bytes, strict=True))
        split = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names[0]))
        rows_at: Any = lambda index: words[index[0].start or 0][None]
        array = jax.make_array_from_callback((len(self.all), len(as_bytes[0])), split, rows_at)
        replicated = NamedSharding(self.mesh, PartitionSpec())
        whole = jax.jit(lambda x: x, out_shardings=replicated)(array).addressable_data(0)
        found = np.asarray(whole)[:, :-1].tobytes()
        return np.frombuffer(found, rows[0].dtype).reshape(len(self.all), *rows[0].shape)

    def agreed(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers that the process of the first device has."""
        if not self.is_shared:
            return list(numbers)
        row = np.asarray(numbers, np.int32)
        return [int(x) for x in self.gathered([row] * len(self.own))[0]]

    def known_to_all(self, flags: Sequence[bool]) -> list[bool]:
        """Return which flags are true in every process."""
        if not self.is_shared or not len(flags):
            return list(flags)
        row = np.asarray(flags, np.int32)
        return [bool(x) for x in self.gathered([row] * len(self.own)).min(axis=0)]

    def free_bytes(self) -> int | None:
        """Return the memory that is free for one device, None where nobody says."""
        device = self.own[0] or jax.local_devices()[0]
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        if device.platform != "cpu" or not hasattr(os, "sysconf"):
            return None
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(self.own)


def _under(settings: Settings, job: Callable[..., Any], *args: Any) -> Any:
    with settings.applied():
        return job(*args)
