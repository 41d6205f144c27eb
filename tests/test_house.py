"""How the house is read: what is public is seen, types are written, signatures print short."""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from pathlib import Path

import pytest

import jaxopt_tut

PACKAGE = Path(jaxopt_tut.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")
ROOMS = sorted(m.name for m in pkgutil.iter_modules([str(PACKAGE)]))
LONGEST_SIGNATURE = 300  # characters; of more than ten parameters, 30 each: names come to 20


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def short(path):
    return str(path.relative_to(PACKAGE))


def is_package(name):
    module = importlib.import_module(name)
    return hasattr(module, "__path__")


def public_modules():
    """List the rooms that are packages, and the modules found among their public names."""
    todo = [f"jaxopt_tut.{room}" for room in ROOMS if is_package(f"jaxopt_tut.{room}")]
    found = []
    while todo:
        module = importlib.import_module(todo.pop())
        found.append(module.__name__)
        for name in module.__all__:
            if isinstance(getattr(module, name), types.ModuleType):
                todo.append(getattr(module, name).__name__)
    return sorted(set(found))


PUBLIC_MODULES = public_modules()


def has_fields(value):
    """Tell whether something is a class whose signature its own fields make."""
    return inspect.isclass(value) and (dataclasses.is_dataclass(value) or issubclass(value, tuple))


def public_names():
    """Map the dotted name of every public function and class to it."""
    found = {}
    for module in map(importlib.import_module, PUBLIC_MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or has_fields(value):
                found[f"{module.__name__.removeprefix('jaxopt_tut.')}.{name}"] = value
    return found


PUBLIC = public_names()


@functools.cache
def listed(module):
    """Return a module's `__all__`, or nothing."""
    return frozenset(getattr(importlib.import_module(module), "__all__", ()))


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_tab_completion_shows_what_is_public(name):
    module = importlib.import_module(name)
    assert dir(module) == sorted(module.__all__)


def unlisted_imports(path):
    """Name what a file takes from another room although no `__all__` there lists it."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text())
    modules = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("jaxopt_tut"):
            continue
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            if full.split(".")[1] == room:
                continue
            if alias.name not in listed(node.module) and node.module != "jaxopt_tut":
                yield full
            if isinstance(
                getattr(importlib.import_module(node.module), alias.name), types.ModuleType
            ):
                modules[alias.asname or alias.name] = full
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            full = modules.get(node.value.id)
            if full and node.attr not in listed(full):
                yield f"{full}.{node.attr}"


@pytest.mark.parametrize("path", FILES, ids=short)
def test_only_listed_names_cross_from_room_to_room(path):
    assert sorted(set(unlisted_imports(path))) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_public_signatures_are_annotated_and_print_short(name):
    signature = inspect.signature(PUBLIC[name])
    bare = [
        p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty
    ]
    assert bare == []
    if inspect.isfunction(PUBLIC[name]):
        assert signature.return_annotation is not inspect.Signature.empty
    longest = max(LONGEST_SIGNATURE, 30 * len(signature.parameters))
    assert len(str(signature)) <= longest, str(signature)


def own_functions(value):
    """Return a function, or the methods that a class writes itself."""
    members = vars(value).values() if inspect.isclass(value) else [value]
    return [getattr(member, "fget", member) for member in members]


@pytest.mark.parametrize("name", PUBLIC)
def test_types_of_public_names_can_be_read_while_running(name):
    for function in filter(inspect.isfunction, own_functions(PUBLIC[name])):
        typing.get_type_hints(function)  # raises for a name that only type checkers see


def functions(tree):
    """Yield the functions of a module and the methods of its classes; closures are left out."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node)
        elif isinstance(node, ast.FunctionDef):
            yield node


def bare_parameters(tree):
    for function in functions(tree):
        args = function.args
        named = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        for arg in named:
            if arg is not None and arg.annotation is None and arg.arg not in ("self", "cls"):
                yield f"{function.name}({arg.arg})"
        if function.returns is None and function.name != "__init__":
            yield f"{function.name} ->"


@pytest.mark.parametrize("path", FILES, ids=short)
def test_parameters_have_types(path):
    assert list(bare_parameters(ast.parse(path.read_text()))) == []


EVERYWHERE = frozenset().union(*(listed(module_name(path)) for path in FILES))


def full_templates(path):
    """Name the functions that no `__all__` lists and whose docstring is a public one's.

    Methods of a class that one lists are public.
    """
    for node in ast.parse(path.read_text()).body:
        if getattr(node, "name", None) in EVERYWHERE:
            continue
        for function in functions(ast.Module([node], [])):
            text = ast.get_docstring(function) or ""
            if "Args:" in text or "Returns:" in text:
                yield function.name


@pytest.mark.parametrize("path", FILES, ids=short)
def test_inner_names_have_no_public_docstring(path):
    assert list(full_templates(path)) == []


@pytest.mark.parametrize("path", FILES, ids=short)
def test_no_docstring_sends_the_reader_away(path):
    text = path.read_text()
    assert "As there" not in text
    assert ": As in `" not in text


def test_the_rules_see_what_breaks_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "optimizers").mkdir()
    bad = tmp_path / "optimizers" / "bad.py"
    bad.write_text(
        "from jaxopt_tut import jaxprs\n"
        "from jaxopt_tut.taps.graph import read_graph\n"
        "def naked(a, *, b: int = jaxprs.hidden):\n"
        '    """Do.\n\n    Args:\n      a: A number.\n    """\n'
    )
    hidden = {"jaxopt_tut.jaxprs.hidden", "jaxopt_tut.taps.graph.read_graph"}
    assert set(unlisted_imports(bad)) == hidden
    assert list(bare_parameters(ast.parse(bad.read_text()))) == ["naked(a)", "naked ->"]
    assert list(full_templates(bad)) == ["naked"]
