"""An ordered pytree of named values."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax

from jaxopt_tut.blocks import Block, in_a_line

_WIDTH, _MOST_ROWS = 80, 20


@jax.tree_util.register_pytree_with_keys_class
class Tape(Block, Mapping[str, Any]):
    """Values in the order of the program, under names that are part of the tree's structure.

    A dict would come out of `jit` in alphabetical order; this keeps the order of the layers.
    It is read like a dict and mapped over like any pytree.

    Example:
      >>> tape = Tape({"b": 1.0, "a": 2.0})
      >>> tape["a"], list(tape), len(tape)
      (2.0, ['b', 'a'], 2)
      >>> list(jax.jit(lambda tape: jax.tree.map(lambda v: 3 * v, tape))(tape))
      ['b', 'a']
    """

    def __init__(self, values: Mapping[str, Any]):
        """Keep the values, by name and in order."""
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a site.

        Raises:
          KeyError: If the tape has no such name; the message lists those it has.
        """
        if name not in self._values:
            known = ", ".join(map(repr, self._values))
            raise KeyError(f"Tape has no {name!r}; it has {known or 'nothing'}.")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Run through the names in order."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the values."""
        return len(self._values)

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Show names, dtypes and shapes, not the numbers."""
        rows = [(name, _summary(value)) for name, value in self._values.items()]
        if len(rows) > _MOST_ROWS:
            first, last = rows[: _MOST_ROWS // 2], rows[1 - _MOST_ROWS // 2 :]
            rows = [*first, ("...", f"{len(rows) - len(first) - len(last)} more"), *last]
        return f"Tape of {len(self)} value" + ("s" if len(self) != 1 else ""), rows

    def __repr__(self) -> str:
        """Show them in a line where that is short, else in one each."""
        line = ", ".join(f"{name!r}: {_summary(v)}" for name, v in self._values.items())
        return f"Tape({{{line}}})" if len(line) < _WIDTH else Block.__repr__(self)

    __str__ = __repr__

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], tuple[str, ...]]:
        """Give the values as children, the names as structure."""
        keys = [jax.tree_util.DictKey(name) for name in self._values]
        return tuple(zip(keys, self._values.values(), strict=True)), tuple(self._values)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """Give the values as children, the names as structure."""
        return tuple(self._values.values()), tuple(self._values)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], values: Iterable[Any]) -> "Tape":
        """Put values under their names again."""
        return cls(dict(zip(names, values, strict=True)))


def _summary(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, int | float | complex):
        return repr(value)
    return in_a_line(value) if shape is None else f"{dtype}[{','.join(map(str, shape))}]"
