"""Which wing of the room may look at which."""

import ast
from pathlib import Path

import pytest

import jaxopt_tut.diagnostics as room

FOLDER = Path(room.__file__).parent
ROOM = room.__name__


def imported(folder):
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("wing", "other"),
    [
        ("measuring", "judging"),
        ("measuring", "nonfinite"),
        ("judging", "nonfinite"),
        ("nonfinite", "measuring"),
        ("nonfinite", "judging"),
    ],
)
def test_a_wing_looks_only_at_what_it_stands_on(wing, other):
    names = set(imported(FOLDER / wing))
    assert any(name.startswith(f"{ROOM}.{wing}.") for name in names)
    assert not any(name.startswith(f"{ROOM}.{other}") for name in names)


def test_a_wing_costs_nothing_before_one_of_its_modules_is_asked_for():
    for wing in ("measuring", "judging", "nonfinite"):
        code = (FOLDER / wing / "__init__.py").read_text()
        assert len(ast.parse(code).body) == 1  # the docstring
