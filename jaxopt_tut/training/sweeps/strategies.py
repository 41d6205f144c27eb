"""How the configurations of a chunk are run: all at once, or a few at a time."""

import dataclasses

from typing_extensions import TypeAliasType

from jaxopt_tut.training.scalars import as_count

__all__ = ["Map", "Strategy", "Vmap", "as_strategy", "lanes_of"]


@dataclasses.dataclass(frozen=True)
class Vmap:
    """A chunk at once, in one vectorised program: what a GPU wants, and very small runs.

    Memory is that of all its runs; conditionals and loops of unknown length last as long as the
    longest. `jax.vmap` gives other bits for other numbers of lanes, hence for other chunks.
    """


@dataclasses.dataclass(frozen=True)
class Map:
    """A few runs at a time, one group after the other; by itself each is a plain program.

    Attributes:
      lanes: Runs in a group. With one, nothing is vectorised, and a run has the bits of
        `jax.jit(run)`; with more, those of `jax.vmap` over so many.
    """

    lanes: int = 1

    def __post_init__(self) -> None:
        """Refuse no lane."""
        if as_count("Map", "lanes", self.lanes) < 1:
            raise ValueError(f"Map needs lanes >= 1, got lanes={self.lanes}.")


Strategy = TypeAliasType("Strategy", Vmap | Map)
"""`Vmap()` or `Map(lanes)`."""


def lanes_of(strategy: Strategy, chunk: int) -> int:
    """Return how many runs are in one program."""
    return strategy.lanes if isinstance(strategy, Map) else chunk


def as_strategy(text: str) -> Strategy:
    """Read what `repr` wrote."""
    known: dict[str, Strategy] = {"Vmap()": Vmap()}
    if text in known:
        return known[text]
    return Map(int(text.removeprefix("Map(lanes=").removesuffix(")")))
