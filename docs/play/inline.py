"""Put the page together: modules, style and still figure into one file that file:// can open.

From file:// a browser loads no modules, so each becomes a function that returns what it exports.
Only the forms `import { a, b as c } from "./x.js";` and `export function|class|const` are known;
anything else is refused rather than guessed at.
"""

import re
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENTRY = HERE / "frame" / "main.js"
LARGEST = 250_000  # bytes of the whole page
GRAPHS = "numerics/graphs.js"
"""The one module that is no file: the library's traces, see `graphs.py`."""

_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (async function|function|class|const) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^\s*(//.*|/\*\*(?:[^*]|\*(?!/))*\*/)\n", re.MULTILINE)

Edit = Callable[[str, str], str]
"""From a file's name below `docs/play` and its text to the text to be used."""


def _unchanged(name: str, text: str) -> str:
    del name
    return text


def build(edit: Edit = _unchanged) -> str:
    """Return the page as one HTML text.

    Args:
      edit: Changes a source before it is used; tests break formulas by it.

    Returns:
      The text, the same for the same sources.

    Raises:
      ValueError: If a module has an import or export of another form, if modules import one
        another in a circle, or if the page is larger than it may be.
    """
    read = lambda path: edit(*_source(path))
    page = read(HERE / "page.html")
    parts = {
        "style": read(HERE / "style.css"),
        "still": read(HERE / "still.svg"),
        "script": "\n".join(_modules(ENTRY, read)),
    }
    for name, text in parts.items():
        mark = f"<!-- {name} -->"
        if page.count(mark) != 1:
            raise ValueError(f"page.html needs {mark} once, has it {page.count(mark)} times.")
        page = page.replace(mark, text)
    size = len(page.encode())
    if size > LARGEST:
        raise ValueError(f"The page needs at most {LARGEST} bytes, has {size}.")
    return page


def _source(path: Path) -> tuple[str, str]:
    """Return a file's name below this folder and its text."""
    name = path.relative_to(HERE).as_posix()
    if name == GRAPHS:
        from docs.play import graphs  # traces the library, which takes a second

        return name, graphs.module()
    return name, path.read_text(encoding="utf-8")


def bundle(entry: str, edit: Edit = _unchanged) -> str:
    """Return a module and what it imports as one JavaScript expression: what the module exports.

    Args:
      entry: The module's name below `docs/play`.
      edit: As of `build`.

    Returns:
      The expression, which needs no page around it.
    """
    path = (HERE / entry).resolve()
    read = lambda p: edit(*_source(p))
    modules = "\n".join(_modules(path, read))
    return f"(() => {{\n{modules}\nreturn {_name(path)};\n}})()"


def _modules(entry: Path, read: Callable[[Path], str]) -> list[str]:
    """Return the modules as functions, each after those that it imports."""
    done: dict[Path, str] = {}
    open_: list[Path] = []

    def add(path: Path) -> None:
        if path in done:
            return
        if path in open_:
            raise ValueError(f"Modules import one another: {[p.name for p in [*open_, path]]}.")
        open_.append(path)
        text = read(path)
        wanted = _IMPORT.findall(text)
        for _, target in wanted:
            add((path.parent / target).resolve())
        body = _IMPORT.sub("", text)
        names = [name for _, name in _EXPORT.findall(body)]
        body = _COMMENT.sub("", _EXPORT.sub(r"\1 \2", body))
        left = re.search(r"^(import|export)\b.*", body, re.MULTILINE)
        if left or "</script" in body:
            raise ValueError(f"{path.name} has a line that is not known here: {left and left[0]!r}")
        imports = ""
        for taken, target in wanted:
            source = _name((path.parent / target).resolve())
            imports += f"const {{{taken.replace(' as ', ': ')}}} = {source};\n"
        given = ", ".join(names)
        done[path] = (
            f"const {_name(path)} = (() => {{\n{imports}{body}return {{ {given} }};\n}})();"
        )
        open_.pop()

    add(entry.resolve())
    return list(done.values())


def _name(path: Path) -> str:
    parts = path.relative_to(HERE).with_suffix("").parts
    return "m_" + "_".join(re.sub(r"\W", "_", part) for part in parts)
