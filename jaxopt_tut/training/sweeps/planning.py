"""Which strategy is fastest, and which chunk fits: measured before the sweep."""

import dataclasses
import time
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from jaxopt_tut.training.sweeps.devices import Devices
from jaxopt_tut.training.sweeps.program import Programs
from jaxopt_tut.training.sweeps.strategies import Map, Strategy, Vmap, lanes_of

MOST_CHUNKS, LEAST_LANES, MOST_LANES = 8, 8, 1024
"""Without a chunk of the user's: eight chunks for eight devices or workers, of 8 to 1024 pairs. It
must not depend on how many there are, or the bits would."""

SHARE_OF_MEMORY = 0.8
"""The compiler's figure leaves out what the host and other programs need."""

SECONDS, MOST_ROUNDS = 0.3, 5
"""Short programs are timed more than once."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sweep is run; with the same plan it has the same bits."""

    strategy: Strategy
    chunk: int
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds a run, by strategy."""
    messages: tuple[str, ...] = ()

    @property
    def lanes(self) -> int:
        """Pairs in one program on one device."""
        return lanes_of(self.strategy, self.chunk)


def default_chunk(size: int) -> int:
    """Cut pairs into up to eight chunks, of a multiple of 8 where there are many."""
    num = min(MOST_CHUNKS, -(-size // LEAST_LANES))
    num *= -(-size // (num * MOST_LANES))
    chunk = -(-size // num)
    return chunk if chunk < LEAST_LANES else -(-chunk // LEAST_LANES) * LEAST_LANES


def make_plan(
    programs: Programs, devices: Devices, strategy: Strategy | None, chunk: int | None
) -> Plan:
    """Choose what is not given, and halve a chunk that is too large."""
    size = programs.pairs.size
    given, messages = chunk, []
    if chunk is None:
        chunk = default_chunk(size)
        if isinstance(strategy, Map):
            chunk = -(-chunk // strategy.lanes) * strategy.lanes
    if strategy is not None:
        chunk = _that_fits(programs, devices, strategy, chunk, given is not None, messages)
        return Plan(strategy, chunk, {}, tuple(messages))
    # What the vectorised program takes decides first: its chunk is that of all, for Map's does not
    # depend on the chunk, but what is kept after each does.
    try:
        chunk = _that_fits(programs, devices, Vmap(), chunk, given is not None, messages)
    except NotImplementedError as error:  # callbacks without a vmap_method, say
        first = str(error).partition("\n")[0].rstrip(".")
        messages.append(f"run is not vectorised, so Map(lanes=1) is taken: {first}.")
        return Plan(Map(), chunk, {}, tuple(messages))
    groups = [lanes for lanes in (8, 4, 2) if lanes < chunk and chunk % lanes == 0][:1]
    candidates: list[Strategy] = [Map(lanes) for lanes in (1, *groups)]
    candidates += [Vmap()] if chunk > 1 else []
    if len(candidates) == 1:
        return Plan(candidates[0], chunk, {}, tuple(messages))
    seconds = time_strategies(programs, devices, candidates, chunk)
    (fastest,) = devices.agreed([int(np.argmin(seconds))])
    timings = {repr(c): one for c, one in zip(candidates, seconds, strict=True)}
    return Plan(candidates[fastest], chunk, timings, tuple(messages))


def time_strategies(
    programs: Programs, devices: Devices, strategies: Sequence[Strategy], chunk: int
) -> list[float]:
    """Return the least seconds a run takes, in turns, over a group of each strategy."""
    lanes = [lanes_of(strategy, chunk) for strategy in strategies]
    for num in lanes:
        devices.each(partial(programs.compiled, num))
    least = [np.inf] * len(lanes)
    spent, rounds, more = 0.0, 0, True
    while more:
        start = time.perf_counter()
        for at, num in enumerate(lanes):
            least[at] = min(least[at], _seconds(programs, devices, num))
        spent, rounds = spent + time.perf_counter() - start, rounds + 1
        (more,) = devices.agreed([rounds < MOST_ROUNDS and spent < SECONDS])
    return least


def _seconds(programs: Programs, devices: Devices, lanes: int) -> float:
    """Time a group a device, of pairs from the whole sweep, as their costs may differ."""
    indices = np.linspace(0, programs.pairs.size - 1, lanes).astype(int)
    given = programs.pairs.take(indices)
    start = time.perf_counter()
    devices.each(lambda device: jax.block_until_ready(programs.start(lanes, *given, device)))
    return (time.perf_counter() - start) / (lanes * len(devices.own))


def _that_fits(
    programs: Programs,
    devices: Devices,
    strategy: Strategy,
    chunk: int,
    is_given: bool,
    messages: list[str],
) -> int:
    """Halve a chunk until the compiler says that it fits."""
    free, first = devices.free_bytes(), chunk
    least = strategy.lanes if isinstance(strategy, Map) else 1
    while True:
        needed = programs.bytes_needed(lanes_of(strategy, chunk), chunk, devices.own[0])
        fits = free is None or needed <= SHARE_OF_MEMORY * free
        (decision,) = devices.agreed([int(fits)])
        if decision or chunk == least:
            break
        chunk = max(least, -(-chunk // (2 * least)) * least)
    if not decision:
        messages.append(
            f"One group of {least} takes {_size(needed)} of the {_size(free)} that are free."
        )
    if chunk < first and is_given:
        messages.append(
            f"A chunk of {first} does not fit into the {_size(free)} that are free: it was halved "
            f"to {chunk}."
        )
    return chunk


def _size(num: int | None) -> str:
    return f"{(num or 0) / 1e6:.3g} MB"
