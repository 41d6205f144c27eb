"""How far the iterators of a run have been drawn, and how they go elsewhere."""

import base64
import inspect
import json
from collections.abc import Callable
from typing import Any

from jaxopt_tut.types import PyTree

KEPT = 16
"""Places near the end whose states are known: more than there are windows ahead."""


def takes_epoch(make_iterator: Callable[..., Any]) -> bool:
    """Tell whether an iterator is made for an epoch."""
    try:
        parameters = inspect.signature(make_iterator).parameters.values()
    except (TypeError, ValueError):  # some callables have none
        return False
    needed = [
        one for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]  # fmt: skip
    if len(needed) > 1 or any(one.kind is one.KEYWORD_ONLY for one in needed):
        raise TypeError(
            "Batches calls make_iterator() or make_iterator(epoch), "
            f"got one of {inspect.signature(make_iterator)}."
        )
    return bool(needed)


class Drawing:
    """The iterators of a run, one after the other; `at` counts the batches drawn."""

    def __init__(self, make_iterator: Callable[..., Any], num_steps: int):
        """Make the first iterator."""
        self.make, self.takes_epoch = make_iterator, takes_epoch(make_iterator)
        self.num_steps, self.at, self.epoch = num_steps, 0, 0
        self.iterator = self._made(0)
        self.peeked: list[PyTree] = []
        self.states: dict[int, str] = {}
        """What was written down of the iterator, by the batches drawn until then."""
        self.note()
        self.is_repeatable = self.takes_epoch or bool(self.states)

    def peek(self) -> PyTree:
        """Look at the next batch."""
        if not self.peeked:
            self.peeked.append(self._next())
        return self.peeked[0]

    def draw(self) -> PyTree:
        """Return the next batch."""
        found = self.peeked.pop() if self.peeked else self._next()
        self.at += 1
        return found

    def go_to(self, at: int) -> None:
        """Go on from another place: from the last known before it, all batches are drawn."""
        if at == self.at:
            return
        start = at - at % self.num_steps if self.takes_epoch else 0
        known = max((one for one in self.states if start <= one <= at), default=start)
        if at < self.at or known > self.at or start > self.at:
            self.peeked.clear()
            self.at, self.iterator = known, self._made(known // self.num_steps)
            if known in self.states:
                self.iterator.set_state(_read(self.states[known]))
        while self.at < at:
            self.draw()

    def note(self) -> None:
        """Write down the state of the iterator, if it has one that JSON knows."""
        # at the end of an epoch it is that of an iterator that is not gone on with
        is_foreign = self.takes_epoch and self.at % self.num_steps == 0
        if is_foreign or not hasattr(self.iterator, "set_state"):
            return
        try:
            self.states[self.at] = json.dumps(self.iterator.get_state(), default=_as_text)
        except TypeError:
            return
        starts = [at for at in self.states if not at % self.num_steps][-2:]
        kept = {*sorted(self.states)[-KEPT:], *starts}
        self.states = {at: state for at, state in sorted(self.states.items()) if at in kept}

    def position(self, at: int) -> str | None:
        """Write down how to come to a place without drawing everything before it."""
        known = max((one for one in self.states if one <= at), default=None)
        return None if known is None else json.dumps([known, self.states[known]])

    def learn(self, position: str | None) -> None:
        """Know what was written down in another process."""
        if position is not None and self.is_repeatable:
            at, state = json.loads(position)
            self.states[at] = state

    def _next(self) -> PyTree:
        epoch, step = divmod(self.at, self.num_steps)
        if self.takes_epoch and epoch != self.epoch:
            self.iterator = self._made(epoch)
        found = next(self.iterator, self)
        if found is self and self.at and not step and not self.takes_epoch:
            self.iterator = self._made(epoch)  # the one before ended where an epoch did
            found = next(self.iterator, self)
        if found is self:
            raise ValueError(
                f"Batches needs {self.num_steps} batches an epoch, got an iterator that ended "
                f"after {step} in epoch {epoch + 1}."
            )
        return found

    def _made(self, epoch: int) -> Any:
        self.epoch = epoch
        made: Any = self.make(epoch) if self.takes_epoch else self.make()
        try:
            return iter(made)
        except TypeError:
            found = type(made).__name__
            raise TypeError(
                f"Batches needs make_iterator to return an iterator, got {found}."
            ) from None


def _as_text(state: Any) -> dict[str, str]:
    if isinstance(state, bytes):
        return {"base64": base64.b64encode(state).decode()}
    raise TypeError


def _read(text: str) -> Any:
    as_bytes = lambda one: base64.b64decode(one["base64"]) if set(one) == {"base64"} else one
    return json.loads(text, object_hook=as_bytes)
