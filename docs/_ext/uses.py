"""Where each public name is used: in the code and the text of pages, and in experiments."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docs._ext import names as catalogue
from docs._ext.cells import codes

CODE = re.compile(r"(?<!`)`([\w.]+)[^`\n]*`(?!`)")


class Uses(NamedTuple):
    """Pages, and experiments by their names, in which something is used."""

    pages: list[str]
    experiments: list[str]


def find_uses(repository: Path) -> dict[str, Uses]:
    """Read all pages and experiments; map dotted names to where they are used."""
    found: dict[str, Uses] = {}
    docs = repository / "docs"
    for path in sorted([*docs.glob("*.md"), *docs.glob("*/*.md")]):
        folder = path.relative_to(docs).parts[0]
        if folder in ("gallery", "play"):
            continue
        page = path.relative_to(docs).with_suffix("").as_posix()
        for name in names_in_page(path.read_text(encoding="utf-8")):
            found.setdefault(name, Uses([], [])).pages.append(page)
    for path in sorted((repository / "experiments").glob("*/[!_]*.py")):
        for name in names_in_code(path.read_text(encoding="utf-8")):
            found.setdefault(name, Uses([], [])).experiments.append(path.stem)
    return found


def names_in_page(text: str) -> set[str]:
    """Name what a page uses in its code, or names in inline code."""
    code = "\n".join(codes(text))
    mentioned = {name for one in CODE.findall(text) if (name := known(one))}
    return mentioned | names_in_code(code)


def names_in_code(code: str) -> set[str]:
    """Name what a program takes from the library, however it is imported."""
    tree = ast.parse(code)
    imported = dict(_imports(tree))
    found = {known(full) for full in imported.values()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
            first, _, rest = dotted.partition(".")
            if first in imported:
                found.add(known(f"{imported[first]}.{rest}"))
    return {name for name in found if name in catalogue.names()}


def known(dotted: str) -> str | None:
    """Return the public name or room that a dotted word begins with, the longest one."""
    parts = dotted.removeprefix(f"{catalogue.PACKAGE}.").split(".")
    for length in range(len(parts), 0, -1):
        word = ".".join(parts[:length])
        if word in catalogue.pages():
            return word
    return None


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(catalogue.PACKAGE):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == catalogue.PACKAGE:
                    yield alias.asname or catalogue.PACKAGE, (alias.asname and alias.name) or ""


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return None
