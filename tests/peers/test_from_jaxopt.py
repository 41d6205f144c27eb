"""The table of `docs/from_jaxopt.md`: every name of jaxopt, and what is said of it is true."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxopt_tut import bilevel, optimizers
from tests.peers.jaxopt_case import jaxopt
from tests.peers.jaxopt_wrong import WRONG
from tests.peers.test_jaxopt import CASES

PAGE = Path(__file__).parents[2] / "docs" / "from_jaxopt.md"
ROW = re.compile(r"^\| `([\w.]+)` \| (.+) \| ([\w ]+) \|$", re.MULTILINE)
ROWS = {name: (cell, whose) for name, cell, whose in ROW.findall(PAGE.read_text(encoding="utf-8"))}
COMPARED = {case.name for case in CASES}
ROOTS = {
    "P": optimizers.projections,
    "bilevel": bilevel,
    "jax": jax,
    "jnp": jnp,
    "optax": optax,
    "optimizers": optimizers,
}
MENTIONED = [
    (name, mention)
    for name, (cell, _) in ROWS.items()
    for code in re.findall(r"`([^`]+)`", cell)
    for mention in re.findall(rf"\b(?:{'|'.join(ROOTS)})(?:\.\w+)+", code)
]


def public_names():
    """Return what can be reached without an underscore: the classes, and what is in modules."""
    names = {name for name in vars(jaxopt) if inspect.isclass(getattr(jaxopt, name))}
    for module in pkgutil.iter_modules(jaxopt.__path__):
        if module.name.startswith("_"):
            continue
        inside = vars(importlib.import_module(f"jaxopt.{module.name}"))
        names |= {
            f"{module.name}.{name}"
            for name, value in inside.items()
            if not name.startswith("_") and not inspect.ismodule(value)
        }
    return names


def test_the_table_has_every_public_name_and_no_other():
    assert set(ROWS) == public_names()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_compared_or_says_why_not(name):
    cell, whose = ROWS[name]
    assert whose in {"ours", "optax", "JAX", "elsewhere", "a type", "no home"}
    assert (whose == "no home") == cell.startswith("no home: ")
    if whose in {"ours", "optax", "JAX"}:
        others = re.findall(r"compared as `(\w+)`", cell)
        assert {name, *others} & COMPARED
    if whose == "ours":
        assert "bilevel." in cell or "optimizers." in cell or "P." in cell


def test_a_comparison_belongs_to_a_row():
    assert set(ROWS) >= COMPARED


def test_what_is_wrong_there_is_told():
    told = PAGE.read_text(encoding="utf-8").split("## Where its answer")[1].split("## Every")[0]
    assert {case.there.split(":")[0] for case in WRONG} <= set(re.findall(r"`([\w.]+)`", told))


@pytest.mark.parametrize(("name", "mention"), MENTIONED)
def test_what_a_row_mentions_exists(name, mention):
    del name  # for the message
    first, *rest = mention.split(".")
    value = ROOTS[first]
    for part in rest:
        value = getattr(value, part)
