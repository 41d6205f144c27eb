"""Fences of plain Markdown become cells, and their first comments say how cells are shown."""

import pytest

from docs._ext.cells import to_cell, to_notebook


def options(cell):
    """Return what stands between the marks of a cell's options."""
    return cell.split("---\n")[1] if "---\n" in cell else ""


def test_a_plain_fence_is_a_cell():
    assert to_cell("x = 1\nx\n") == "```{code-cell} python\nx = 1\nx\n```"


def test_words_say_how_a_figure_is_shown_and_are_not_shown():
    cell = to_cell('# alt: Adam: "arrives".\n# caption: A $w$.\nplot()\n')
    assert options(cell) == (
        'mystnb: {"image": {"alt": "Adam: \\"arrives\\"."}, "figure": {"caption": "A $w$."}}\n'
    )
    assert cell.endswith("---\nplot()\n```")


@pytest.mark.parametrize("first", ["# solution", "# solution\n# alt: a", "# alt: a\n# solution"])
def test_solutions_are_folded(first):
    cell = to_cell(f"{first}\nx\n")
    assert '"Show the solution"' in options(cell)
    assert 'tags: ["hide-cell"]' in options(cell)
    assert cell.endswith("---\nx\n```")


def test_other_comments_stay():
    assert to_cell("# alternatives: x\n# solutions\nx\n").endswith(
        "# alternatives: x\n# solutions\nx\n```"
    )


def test_a_page_without_code_stays_as_it_is():
    text = "# Title\n\n```sh\nmake\n```\n"
    assert to_notebook(text) == text


@pytest.mark.parametrize(
    "shown",
    [
        "````\n```python\nx\n```\n````\n",
        "`````{code-block} text\na\n```python\nx\n```\n\n```python\ny\n```\n`````\n",
        "```text\n```python\nx\n```\n",
    ],
)
def test_what_looks_like_a_cell_within_a_fence_is_text(shown):
    assert to_notebook(f"# Title\n\n{shown}") == f"# Title\n\n{shown}"
    page = to_notebook(f"# Title\n\n{shown}\n```python\nz\n```\n")
    assert page.endswith(f"\n{shown}\n```{{code-cell}} python\nz\n```\n")


def test_the_kernel_is_started_behind_the_title():
    page = to_notebook("# Title\n\nText.\n\n```python\nx\n```\n")
    front, title, rest = page.partition("# Title\n")
    assert front.startswith("---\nfile_format: mystnb\n")
    assert title
    assert rest.index("remove-cell") < rest.index("Text.") < rest.index("\nx\n")
