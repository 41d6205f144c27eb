"""Interleaved timing and plain tables."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version


def machine() -> str:
    """Return one line that says what the figures were measured on."""
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line for line in file if line.startswith("model name")).split(":")[1]
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    versions = ", ".join(f"{name} {_version(name)}" for name in ("jax", "optax", "flax", "torch"))
    return (
        f"{model.strip()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Time each variant once a round, after one untimed call of each.

    Args:
      variants: Functions that return only when their work is done.
      rounds: How often each is timed.

    Returns:
      Seconds of every call, by name.
    """
    for call in variants.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def both_clocks(
    variants: Mapping[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Time each variant once a round, as `interleaved`, by the clock and by the processor."""
    for call in variants.values():
        call()
    wall: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            starts = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - starts[0])
            cpu[name].append(time.process_time() - starts[1])
    return wall, cpu


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns: text to the left, numbers to the right with three digits."""
    cells = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    print(f"\n{title}")
    for line in [list(header), ["-" * width for width in widths], *cells]:
        first, *rest = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join([first, *rest]))
