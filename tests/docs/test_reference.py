"""The reference holds every public name, and says who uses it; no page is built for these tests."""

import importlib
import types

import pytest

import jaxopt_tut
from docs._ext import names, reference, targets, uses
from docs._ext.docstrings import summary, to_rst


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    reference.write_reference(folder)
    return folder


def public_names(prefix, module):
    """Yield what a room's `__all__` lists, and what those of the rooms within do."""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield from public_names(f"{prefix}.{name}", value)
        else:
            yield f"{prefix}.{name}"


def test_no_public_name_is_missing(written):
    rooms = [importlib.import_module(f"jaxopt_tut.{room}") for room in jaxopt_tut.__all__]
    public = {
        name
        for room, module in zip(jaxopt_tut.__all__, rooms, strict=True)
        for name in public_names(room, module)
    }
    assert set(names.names()) == public
    for dotted, name in names.names().items():
        page = (written / f"{name.page}.rst").read_text()
        assert page.startswith(f"{dotted}\n=")
        assert f":: jaxopt_tut.{dotted}" in page
        # each page stands in the table of contents of its room
        contents = (written / name.page).parent / "index.rst"
        assert f"   {name.name} </{name.page}>\n" in contents.read_text() + "\n"


def test_files_differ_where_upper_and_lower_case_are_one():
    pages = [page.lower() for page in names.pages().values()]
    assert len(set(pages)) == len(pages)


def test_no_room_is_missing(written):
    contents = (written / "reference" / "index.rst").read_text()
    assert [room for room in jaxopt_tut.__all__ if f"/reference/{room}/index" not in contents] == []


def test_pages_of_names_that_are_gone_go(written):
    old = written / "reference" / "optimizers" / "gone.rst"
    old.write_text("gone")
    reference.write_reference(written)
    assert not old.exists()


def test_users_of_a_name_are_found_however_it_is_imported():
    code = """
from jaxopt_tut import initializers, optimizers as opt
from jaxopt_tut.landscape import surfaces
from jaxopt_tut.bilevel import argmin as solve
initializers.gain(f); opt.line_search.wolfe(); surfaces.ravine.fun; other.adam
"""
    found = {
        "bilevel.argmin",
        "initializers.gain",
        "landscape.surfaces.ravine",
        "optimizers.line_search.wolfe",
    }
    assert uses.names_in_code(code) == found
    page = f"Text on `optimizers.adam`.\n\n```python\n{code}```\n"
    assert uses.names_in_page(page) == found | {"optimizers.adam"}


def test_a_page_of_the_reference_says_who_uses_it(written):
    page = (written / "reference/initializers/gain.rst").read_text()
    users = page[page.index("Used in") :]
    assert "* :doc:`/learn/a4_beyond`" in users
    assert "* ``experiments/activation_gains``" in users
    assert "ravine" not in users


def test_inline_code_that_is_a_public_name_means_its_page():
    assert targets.page_for("initializers.gain", "index") == "reference/initializers/gain"
    assert targets.page_for("jaxopt_tut.optimizers.adam(1e-3)", "index") == (
        "reference/optimizers/adam"
    )
    assert targets.page_for("optimizers.Solution.status", "a") == "reference/optimizers/Solution"
    assert targets.page_for("experiments/ravine", "index") == "gallery/ravine"
    assert targets.page_for("optimizers", "index") == "reference/optimizers/index"
    assert targets.page_for("step", "index") is None  # a common word
    assert targets.page_for("project", "reference/landscape/x") == "reference/landscape/project"
    assert targets.page_for("project", "index") is None  # two rooms have one
    assert targets.page_for("xavier_normal", "index") == "reference/initializers/xavier_normal"
    assert targets.page_for("training.md", "index") is None
    assert targets.page_for("plotting.plot_...", "index") is None
    assert targets.page_for("jnp.where(x > 0, x, 0)", "index") is None


@pytest.mark.parametrize("name", ["initializers.gian", "optimizers.adam_(1e-3)", "bilevel.x.y"])
def test_a_broken_name_is_an_error(name):
    with pytest.raises(LookupError, match=r"is no public name of"):
        targets.page_for(name, "index")


@pytest.mark.parametrize(
    ("markdown", "rst"),
    [
        ("Take `x` and $y$.", "Take ``x`` and :math:`y`."),
        ("of $n$th and `f`s", r"of :math:`n`\ th and ``f``\ s"),
        ("A\n$$a = b$$\nand c", "A\n\n.. math::\n\n   a = b\n\nand c"),
        ("a * b, *args, x_, |r|", r"a \* b, \*args, x\_, \|r\|"),
        ("an *aside*:\n\n* one\n* two", "an *aside*:\n\n* one\n* two"),
        (r"$\|x\|_2$ of `a_`", r":math:`\|x\|_2` of ``a_``"),
        (">>> 2 * 3\n6", ">>> 2 * 3\n6"),
    ],
)
def test_markdown_of_docstrings_becomes_roles(markdown, rst):
    assert to_rst(markdown) == rst + "\n"


def test_sections_of_docstrings_become_lists():
    text = to_rst("Do.\n\nArgs:\n  a: One\n    $x$.\n  *b: Two.\n\nReturns:\n  What: `c`.\n")
    assert "``a``\n   One\n   :math:`x`.\n" in text
    assert "``*b``\n   Two.\n" in text
    assert ".. rubric:: Returns\n\nWhat: ``c``." in text


def test_tables_of_docstrings_become_tables():
    text = to_rst("Do.\n\n| a | b |\n|---|---|\n| `x` | $y$ |\n")
    assert "   * - a\n     - b\n   * - ``x``\n     - :math:`y`" in text


def test_a_summary_is_the_first_paragraph_on_one_line():
    assert summary("Take `x`\n    twice.\n\n    More.") == "Take ``x`` twice."
    assert summary(None) == ""


def test_words_that_are_meant_keep_their_quotes_and_types_have_none(written):
    page = (written / "reference" / "initializers" / "gain.rst").read_text()
    assert "mode: Literal['forward', 'backward', 'centred'] = 'forward'" in page
    page = (written / "reference" / "curvature" / "top_eigenpairs.rst").read_text()
    assert "(op: jaxopt_tut.curvature.Operator, k: int" in page
