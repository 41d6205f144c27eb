"""Links of the documentation into the interactive page: each names a widget and its state."""

import re
from html import unescape
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*DOCS.glob("*.md"), *DOCS.glob("learn/*.md"), *DOCS.glob("howto/*.md")]
LINKS = sorted(
    (page.relative_to(DOCS).as_posix(), unescape(fragment))
    for page in PAGES
    for fragment in re.findall(r'href="(?:\.\./)?play\.html#([^"]+)"', page.read_text("utf-8"))
)


@pytest.mark.parametrize("fragment", sorted({fragment for _, fragment in LINKS}))
def test_the_page_takes_a_link_as_it_is_written(open_briefly, fragment):
    opened = open_briefly(f"#{fragment}")
    # what it does not know is replaced, and the address written anew
    opened.wait_for_function("location.hash.includes('guess=')")
    widget, *state = fragment.split("&")
    shown, *written = opened.evaluate("location.hash.slice(1)").split("&")
    assert shown == widget
    assert [part for part in state if part not in written] == []
    assert opened.faults == []


def test_chapters_lead_to_every_widget():
    chapters = {page.split("/")[1][:2] for page, _ in LINKS if page.startswith("learn/")}
    assert {"a3", "a4", "a5", "a6", "b1", "b3", "b5", "b8", "b9"} <= chapters
    widgets = {fragment.split("&")[0] for _, fragment in LINKS}
    assert widgets == {"descent", "momentum", "initialization", "backpropagation", "hypergradient"}
