"""The built site in Chromium: accessible, light and dark, and never scrolled sideways."""

import sys
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
SAMPLE = (
    "index.html",
    "learn/a3_variance.html",
    "reference/optimizers/adam.html",
    "gallery/index.html",
    "gallery/ravine.html",
    "playground.html",
    "play.html",
)
WIDTHS = (320, 390, 1280)
pytestmark = pytest.mark.slow


@pytest.fixture(params=["light", "dark"])
def tab(browser, request):
    """Open a tab that follows one scheme and notes what it asks for."""
    context = browser.new_context(
        color_scheme=request.param, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.asked = []
    page.on("request", lambda asked: page.asked.append(asked.url))
    yield page
    context.close()


def serious(tab):
    """Return what axe-core calls serious or critical, with where."""
    tab.evaluate(AXE.read_text("utf-8"))
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        (one["id"], node["target"], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("page", SAMPLE)
def test_pages_are_accessible(tab, page):
    tab.goto((SITE / page).as_uri())
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        tab.wait_for_timeout(500)  # then the theme lets the keyboard reach what scrolls now
        assert serious(tab) == [], width
    assert [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_play_is_accessible_before_and_after_each_guess(tab):
    address = (SITE / "play.html").as_uri()
    tab.goto(address)
    widgets = tab.locator("nav a").evaluate_all("all => all.map((a) => a.hash)")
    assert len(widgets) == 5
    found = {}
    for widget in widgets:
        for guess, shown in (("none", ".guess form"), ("0", ".guess .told"), ("skip", ".says")):
            tab.goto("about:blank")  # another text behind the # alone would load nothing
            tab.goto(f"{address}{widget}&guess={guess}")
            assert tab.locator(shown).is_visible()
            for width in (320, 1280):
                tab.set_viewport_size({"width": width, "height": 900})
                tab.wait_for_timeout(100)
                if faults := serious(tab):
                    found[widget, guess, width] = faults
    assert found == {}


def test_axe_sees_what_is_not_accessible(tab):
    tab.set_content("<html lang=en><title>t</title><main><img src=x><h1>t</h1></main>")
    assert [name for name, *_ in serious(tab)] == ["image-alt"]


@pytest.mark.parametrize(
    "page",
    [
        "gallery/claims.html",
        "glossary.html",
        "which.html",
        "learn/index.html",
        "howto/diagnose.html",
    ],
)
def test_long_tables_hide_no_cell_on_a_phone(browser, page):
    tab = browser.new_context(viewport={"width": 390, "height": 800}).new_page()
    tab.goto((SITE / page).as_uri())
    right = "[...document.querySelectorAll('td')].map((e) => e.getBoundingClientRect().right)"
    assert 0 < max(tab.evaluate(right)) <= 390
    tab.set_viewport_size({"width": 1280, "height": 900})
    assert tab.evaluate("getComputedStyle(document.querySelector('td')).display") == "table-cell"
    tab.context.close()


# the page as a whole, and text that its own box cuts off or does not hold
TOO_WIDE = """() => {
  const scrolls = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX);
  const held = (e) => e && (scrolls(e) || held(e.parentElement));
  const text = [...document.querySelectorAll("article :is(h1, h2, h3, p, li, dt, dd)")];
  const cut = text.filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1 && !held(e));
  const wide = document.scrollingElement.scrollWidth;
  const page = wide > innerWidth ? [`page ${wide}`] : [];
  return [...page, ...cut.map((e) => e.textContent.slice(0, 60))];
}"""


def test_no_page_scrolls_sideways(browser):
    tab = browser.new_context(viewport={"width": 320, "height": 800}).new_page()
    files = [*SITE.glob("*.html"), *SITE.glob("learn/*.html"), *SITE.glob("howto/*.html")]
    files += [SITE / page for page in SAMPLE] + sorted(SITE.glob("reference/**/*.html"))[::20]
    wide = {}
    for path in files:
        tab.goto(path.as_uri())
        if found := tab.evaluate(TOO_WIDE):
            wide[path.relative_to(SITE).as_posix()] = found
    tab.set_content("<article><h1>" + "optimizers." * 9)
    assert len(tab.evaluate(TOO_WIDE)) == 2  # the check sees it
    tab.context.close()
    assert wide == {}
