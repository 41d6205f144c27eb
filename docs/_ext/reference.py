"""The reference: a page a room and a page a public name, written before Sphinx looks for pages."""

import functools
import inspect
import re
from pathlib import Path

from docs._ext import names as catalogue
from docs._ext.docstrings import summary, to_rst
from docs._ext.names import Name, Room
from docs._ext.uses import Uses, find_uses

REPOSITORY = Path(__file__).parents[2]


def write_reference(docs: Path) -> None:
    """Write the pages under `reference/`; those that have not changed are left as they are."""
    uses = find_uses(REPOSITORY)
    pages = {"reference/index": _index()}
    for room in catalogue.rooms():
        pages[room.page] = _room_page(room)
        pages |= {name.page: _name_page(name, uses) for name in room.names}
    wanted = {docs / f"{page}.rst": text for page, text in pages.items()}
    for old in set((docs / "reference").rglob("*.rst")) - set(wanted):
        old.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def _index() -> str:
    rows = "\n".join(
        f"   * - :doc:`{room.name} </{room.page}>`\n     - {summary(room.module.__doc__)}"
        for room in catalogue.rooms()
        if "." not in room.name
    )
    toc = "\n".join(f"   /{r.page}" for r in catalogue.rooms() if "." not in r.name)
    table = f".. list-table::\n   :widths: 25 75\n\n{rows}\n"
    return f"{_title('Reference')}\nThe rooms of the library.\n\n{table}\n{_toctree(toc)}"


def _toctree(entries: str) -> str:
    return f".. toctree::\n   :hidden:\n   :maxdepth: 1\n\n{entries}\n" if entries else ""


def _room_page(room: Room) -> str:
    rows = [
        f"   * - :doc:`{n.name} </{n.page}>`\n     - {summary(_docstring(n))}" for n in room.names
    ]
    by_name = {r.name: r for r in catalogue.rooms()}
    inner = [by_name[name] for name in room.rooms]
    rows += [
        f"   * - :doc:`{r.name} </{r.page}>`\n     - {summary(r.module.__doc__)}" for r in inner
    ]
    table = ".. list-table::\n   :widths: 25 75\n\n" + "\n".join(rows) + "\n"
    toc = "\n".join(
        [f"   {n.name} </{n.page}>" for n in room.names] + [f"   /{r.page}" for r in inner]
    )
    module = f".. py:module:: {room.module.__name__}\n"
    text = to_rst(room.module.__doc__)
    return "\n".join([_title(room.name), module, text, table, _toctree(toc)])


def _docstring(name: Name) -> str | None:
    if name.kind != "data":
        return inspect.getdoc(name.value)
    return _comment_below(name)


def _comment_below(name: Name) -> str | None:
    """Return the string that stands under a constant in its module, or else what its value says."""
    own = getattr(name.value, "__doc__", None)
    return own if own and own != type(name.value).__doc__ else None


def _name_page(name: Name, uses: Uses) -> str:
    full = f"{catalogue.PACKAGE}.{name.dotted}"
    head = [_title(name.dotted)]
    if name.kind == "data":
        head += [f".. py:data:: {full}", f"   :value: {_short(repr(name.value))}", ""]
    else:
        head += [f".. py:{name.kind}:: {full}{_signature(name.value)}", ""]
    body = [to_rst(_docstring(name))]
    if name.kind == "class":
        body += _members(name.value)
    inside = "\n".join("   " + line if line.strip() else "" for line in "\n".join(body).split("\n"))
    return "\n".join(head) + "\n" + inside.rstrip() + "\n\n" + _uses(name, uses)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."


def _signature(value: object) -> str:
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        return ""
    text = text.removesuffix(" -> None")
    return _readable(text)


def _readable(signature: str) -> str:
    """Give types their public names or their last word, and defaults that are objects their own."""
    signature = re.sub(r"<[a-z-]+ '?([\w.]+).*?>", r"\1", signature)
    # quotes stay around words that are meant, and go from types that are written as texts
    signature = re.sub(r"(Literal\[[^\]]*\]|= '[^']*')|'", lambda m: m[1] or "", signature)
    return re.sub(r"\b(?:[a-zA-Z_]\w*\.)*[a-zA-Z_]\w*", _type, signature)


def _type(found: re.Match) -> str:
    path = found[0]
    public = _public_types().get(path)
    return f"{catalogue.PACKAGE}.{public}" if public else path.split(".")[-1]


@functools.cache
def _public_types() -> dict[str, str]:
    """Map the path at which a class is defined to the first public name of it."""
    found: dict[str, str] = {}
    for dotted, name in catalogue.names().items():
        if name.kind == "class":
            found.setdefault(f"{name.value.__module__}.{name.value.__qualname__}", dotted)
    return found


def _members(value: type) -> list[str]:
    fields = set(getattr(value, "_fields", ())) | set(getattr(value, "__dataclass_fields__", ()))
    out = []
    for key, member in vars(value).items():
        if key.startswith("_") or key in fields:
            continue
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if not inspect.isfunction(function) or not function.__doc__:
            continue
        if isinstance(member, property):
            out += [f".. py:property:: {key}", ""]
        else:
            flag = "   :classmethod:" if isinstance(member, classmethod) else ""
            flag = "   :staticmethod:" if isinstance(member, staticmethod) else flag
            out += [f".. py:method:: {key}{_signature(getattr(value, key))}", flag, ""]
        out += ["   " + line if line else "" for line in to_rst(function.__doc__).split("\n")]
        out.append("")
    return out


def _uses(name: Name, uses: Uses) -> str:
    used = uses.get(name.dotted)
    if not used:
        return ""
    lines = [f"* :doc:`/{page}`" for page in used.pages]
    lines += [f"* ``experiments/{one}``" for one in used.experiments]
    return ".. rubric:: Used in\n\n" + "\n".join(lines) + "\n"


def _write(app):
    write_reference(Path(app.srcdir))


def setup(app):
    """Register the generator."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
