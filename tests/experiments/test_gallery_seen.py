"""The gallery in a browser: on a phone and a screen, by day and by night."""

import sys
from pathlib import Path

import pytest

from tests.experiments.galleries import draw, make, write

AXE = Path(sys.prefix, "node", "node_modules", "axe-core", "axe.min.js")
SIZES = {320: 640, 390: 844, 1280: 800}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a gallery with long words and wide figures."""
    with pytest.MonkeyPatch.context() as patch:
        results = make(tmp_path_factory.mktemp("gallery"), patch)
        for name in ("grows", "falls"):
            draw(results / name / "some_paths.png", size=(1560, 900))
            draw(results / name / "some_paths.dark.png", "black", size=(1560, 900))
        script = results.with_name("scripts") / "part" / "grows.py"
        long = "a_word_that_does_not_end_" * 20
        script.write_text(script.read_text("utf-8").replace("trees do", long), encoding="utf-8")
        write(results, to=results)
        return results


@pytest.fixture(params=SIZES)
def look(request, browser, folder):
    """Return a function that opens a page of the gallery in a window of one size."""
    size = {"width": request.param, "height": SIZES[request.param]}
    contexts = []

    def open_(name, scheme="light", **options):
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme, **options))
        page = contexts[-1].new_page()
        page.goto((folder / name).as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        return page

    yield open_
    for context in contexts:
        context.close()


PAGES = ("index.html", "claims.html", "grows/index.html")


@pytest.mark.parametrize("name", PAGES)
def test_no_page_scrolls_sideways(look, name):
    page = look(name)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_no_cell_of_the_claims_is_hidden_at_the_side(look):
    page = look("claims.html")
    cells = "[...document.querySelectorAll('td')].map((e) => e.getBoundingClientRect().right)"
    assert max(page.evaluate(cells)) <= page.viewport_size["width"]
    side_by_side = page.evaluate("getComputedStyle(document.querySelector('td')).display")
    assert side_by_side == ("table-cell" if page.viewport_size["width"] > 640 else "block")


def test_a_figure_is_within_the_first_screen_without_scripts_too(look):
    page = look("grows/index.html", java_script_enabled=False)
    place = page.locator("main img").first.bounding_box()
    assert place["y"] + place["height"] <= page.viewport_size["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_shows_the_figure_of_its_scheme(look, scheme):
    page = look("grows/index.html", scheme)
    shown = page.evaluate("document.querySelector('main img').currentSrc")
    assert shown.endswith("some_paths.dark.png" if scheme == "dark" else "some_paths.png")


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed; `make docs` does so")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(look, name, scheme):
    page = look(name, scheme)
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run()")
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
    assert found["passes"]
