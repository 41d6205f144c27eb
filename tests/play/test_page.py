"""The frame of the interactive page: one file, state in its address, keys, light and dark."""

import pytest

from docs.play.inline import HERE, LARGEST, build


def test_page_is_one_small_file_that_loads_nothing():
    page = build()
    assert len(page.encode()) <= LARGEST
    assert page == build()
    assert 'src="' not in page
    assert "import(" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_inliner_refuses_what_it_does_not_know():
    def default_export(name, text):
        return text + "\nexport default 1;\n" if name == "numerics/paths.js" else text

    with pytest.raises(
        ValueError, match=r"paths.js has a line that is not known here: 'export def"
    ):
        build(default_export)


@pytest.mark.parametrize("path", sorted((HERE / "numerics").glob("*.js")), ids=lambda p: p.name)
def test_numerics_know_no_page(path):
    text = path.read_text(encoding="utf-8")
    assert "document" not in text
    assert "window" not in text
    assert "../frame" not in text


def test_page_opens_from_a_file_and_asks_first(open_page):
    page = open_page()
    assert page.faults == []
    assert page.evaluate("play.now().state.guess") == "none"
    assert "Guess first" in page.locator(".says").inner_text()
