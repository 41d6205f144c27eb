"""Every public name of the library, and the page of the reference that it stands on."""

import functools
import importlib
import inspect
import types
from typing import Any, NamedTuple

PACKAGE = "jaxopt_tut"


class Name(NamedTuple):
    """A public name: `room` is dotted, without the package; `name` stands in its `__all__`."""

    room: str
    name: str
    value: Any
    page: str

    @property
    def dotted(self) -> str:
        """Return what a reader writes after `from jaxopt_tut import room`."""
        return f"{self.room}.{self.name}"

    @property
    def kind(self) -> str:
        """Return the directive of Sphinx's Python domain that fits."""
        if inspect.isclass(self.value):
            return "class"
        return "function" if is_function(self.value) else "data"


class Room(NamedTuple):
    """A public module; `rooms` are those among its own public names."""

    name: str
    module: types.ModuleType
    names: tuple[Name, ...]
    rooms: tuple[str, ...]

    @property
    def page(self) -> str:
        """Return the page of the room."""
        return page_of(self.name) + "/index"


def is_function(value: Any) -> bool:
    """Tell whether something is a function, or one that JAX has wrapped."""
    return inspect.isfunction(value) or inspect.isfunction(getattr(value, "__wrapped__", None))


def page_of(room: str) -> str:
    """Return the folder of a room's pages."""
    return "reference/" + room.replace(".", "/")


@functools.cache
def rooms() -> tuple[Room, ...]:
    """List the rooms in the order of the package, each before the rooms within it."""
    package = importlib.import_module(PACKAGE)
    return tuple(
        found
        for name in package.__all__
        for found in _rooms_from(name, importlib.import_module(f"{PACKAGE}.{name}"))
    )


def _rooms_from(name: str, module: types.ModuleType) -> list[Room]:
    listed = {public: getattr(module, public) for public in module.__all__}
    inner = tuple(key for key, value in listed.items() if isinstance(value, types.ModuleType))
    names, taken = [], {"index"}
    for public in sorted(set(listed) - set(inner), key=lambda key: (key.lower(), key)):
        # some file systems take `Critical` and `critical` for one file
        file = public if public.lower() not in taken else f"{public}-{len(taken)}"
        taken.add(public.lower())
        names.append(Name(name, public, listed[public], f"{page_of(name)}/{file}"))
    here = Room(name, module, tuple(names), tuple(f"{name}.{key}" for key in inner))
    return [here] + [found for key in inner for found in _rooms_from(f"{name}.{key}", listed[key])]


@functools.cache
def names() -> dict[str, Name]:
    """Map the dotted name of everything public to what is known about it."""
    return {name.dotted: name for room in rooms() for name in room.names}


@functools.cache
def pages() -> dict[str, str]:
    """Map what may stand in inline code, a room or a name in one, to its page."""
    return {room.name: room.page for room in rooms()} | {
        dotted: name.page for dotted, name in names().items()
    }


@functools.cache
def unique() -> dict[str, str]:
    """Map names that stand in one room alone to their dotted ones."""
    found: dict[str, list[str]] = {}
    for dotted, name in names().items():
        found.setdefault(name.name, []).append(dotted)
    return {name: dotted[0] for name, dotted in found.items() if len(dotted) == 1}
