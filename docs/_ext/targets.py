"""Which page inline code means."""

import importlib.util
import re

from docs._ext import names as catalogue
from docs._ext.uses import known

WORD = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)(\(.*\))?", re.DOTALL)
EXPERIMENT = re.compile(r"experiments/(\w+)")
FILES = (".py", ".md", ".json", ".svg", ".png", ".txt", ".csv", ".npz")


def page_for(text: str, here: str) -> str | None:
    """Return the page that inline code on the page `here` means.

    Raises:
      LookupError: If it is written as a name of the library which does not exist.
    """
    if found := EXPERIMENT.fullmatch(text):
        return f"gallery/{found[1]}"
    found = WORD.fullmatch(text)
    if found is None or text.endswith(FILES):
        return None
    word = found[1].removeprefix(f"{catalogue.PACKAGE}.")
    if "." not in word:
        return _bare(word, here)
    name = known(word)
    if name is None:
        return None
    if name in {room.name for room in catalogue.rooms()} and name != word:
        if _is_inner(word):
            return None
        raise LookupError(f"{text} is no public name of {name}")
    return catalogue.pages()[name]


def _is_inner(word: str) -> bool:
    """Tell whether a word is a module that is none of the rooms."""
    try:
        return importlib.util.find_spec(f"{catalogue.PACKAGE}.{word}") is not None
    except ModuleNotFoundError:
        return False


def _bare(word: str, here: str) -> str | None:
    """Find a name without a room: in the room of the page first, then the only one of that name."""
    if here.startswith("reference/"):
        parts = here.split("/")[1:-1]
        for length in range(len(parts), 0, -1):
            page = catalogue.pages().get(".".join([*parts[:length], word]))
            if page:
                return page
    if word in {room.name for room in catalogue.rooms()}:
        return catalogue.pages()[word]
    dotted = catalogue.unique().get(word)
    # words that are common in sentences of code (`step`, `fit`, `box`) stay what they are
    telling = "_" in word or word[:1].isupper()
    return catalogue.pages()[dotted] if dotted and telling else None
