"""Each row of the glossary leads to a chapter that uses what the row names."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXPERIMENTS = DOCS.parent / "experiments"


def rows():
    """Return names, pages and experiments of each row."""
    found = []
    for line in (DOCS / "glossary.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "term" and not set(cells[0]) <= set("- "):
            term, _, code, chapters, experiments = cells
            names = re.findall(r"`([\w.]+)`", code)
            pages = re.findall(r"\]\(([\w/]+\.md)\)", chapters)
            assert pages, term
            scripts = re.findall(r"`experiments/(\w+)`", experiments)
            found.append(pytest.param(names, pages, scripts, id=term))
    return found


@pytest.mark.parametrize(("names", "pages", "experiments"), rows())
def test_a_row_leads_to_pages_that_use_a_name_of_it(names, pages, experiments):
    assert names
    for page in pages:
        words = set(re.findall(r"\w+", (DOCS / page).read_text("utf-8")))
        assert [name for name in names if name.split(".")[-1] in words], page
    assert experiments
    for name in experiments:
        assert list(EXPERIMENTS.glob(f"*/{name}.py")), name
