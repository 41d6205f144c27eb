"""The site that `make docs` has built: links, images, outputs of its cells, size."""

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.prints import PRINTS
from tests.docs.site_pages import SITE, read, read_site

bs4 = pytest.importorskip("bs4", reason="the site is read by what `make docs` installs")
DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.slow  # the site takes minutes: `make test SLOW=1` builds it first


@pytest.fixture(scope="module")
def pages():
    return read_site()


def dead_links(pages, site=SITE):
    """Yield links to a page, a file or an anchor of the site that is not there."""
    for here, page in pages.items():
        for link in page.links | {address for _, address in page.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            there = (
                posixpath.normpath(posixpath.join(posixpath.dirname(here), path)) if path else here
            )
            anchor = unquote(parts.fragment)
            anchors = pages[there].anchors if there in pages else set()
            # the interactive page keeps its state behind the #
            missing = anchor and there != "play.html" and anchor not in anchors
            if missing or not (site / there).is_file():
                yield f"{here}: {link}"


def foreign(pages):
    """Yield what a page loads from elsewhere."""
    for here, page in pages.items():
        for tag, address in page.loaded:
            if urlsplit(address).scheme not in ("", "data") or address.startswith("//"):
                yield f"{here}: <{tag}> {address}"


def badly_described(pages):
    """Yield images without an alternative text, or whose text is the name of a file."""
    for here, page in pages.items():
        for source, alt in page.images:
            said = (alt or "").strip()
            if not said or Path(said).suffix in (".png", ".svg") or said == Path(source).stem:
                yield f"{here}: {source} {alt!r}"


def test_options_of_commands_keep_their_dashes():
    found = [
        (path.name, words)
        for path in SITE.rglob("*.html")
        for words in re.findall(r"[\w,;] –[a-z]+", path.read_text("utf-8"))
    ]
    assert found == []


def test_no_internal_link_is_dead(pages):
    assert sorted(dead_links(pages)) == []


def test_nothing_is_loaded_from_elsewhere(pages):
    assert sorted(foreign(pages)) == []
    for sheet in SITE.rglob("*.css"):
        text = sheet.read_text("utf-8")
        addresses = re.findall(r"url\(\s*['\"]?([^)'\"]+)", text)
        addresses += re.findall(r"@import\s+['\"]([^'\"]+)", text)
        assert [a for a in addresses if re.match(r"(https?:)?//", a)] == [], sheet


def test_images_have_alternative_texts(pages):
    assert sorted(badly_described(pages)) == []


def test_these_checks_see_what_breaks_them(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x">')
    text = """<a href="a.html#x"><a href="a.html#y"><a href="b.html"><a href="#z">
    <script src="https://elsewhere.org/x.js"></script><img src="a.html" alt="picture.png">"""
    pages = {"a.html": read('<p id="x">'), "index.html": read(text)}
    dead = {"index.html: a.html#y", "index.html: b.html", "index.html: #z"}
    assert set(dead_links(pages, tmp_path)) == dead
    assert list(foreign(pages)) == ["index.html: <script> https://elsewhere.org/x.js"]
    assert list(badly_described(pages)) == ["index.html: a.html 'picture.png'"]


def built(page):
    """Parse a built page, given its source."""
    path = (SITE / page).with_suffix(".html")
    return bs4.BeautifulSoup(path.read_text("utf-8"), "html.parser")


def printed(page):
    """Return what the cells of a page have printed when the site was built."""
    return "".join(pre.get_text() for pre in built(page).select(".cell_output .stream pre"))


@pytest.mark.parametrize("page", PRINTS)
def test_pages_print_what_they_must(page):
    text = printed(page)
    assert [line for line in PRINTS[page] if line not in text] == []


def test_every_page_with_code_has_run():
    sources = [*DOCS.glob("*.md"), *DOCS.glob("learn/*.md"), *DOCS.glob("howto/*.md")]
    fences = {path: path.read_text("utf-8").count("\n```python\n") for path in sources}
    assert sum(map(bool, fences.values())) > 20
    for path, count in fences.items():
        page = built(path.relative_to(DOCS))
        assert len(page.select(".cell_input")) == count, path
        assert "# alt:" not in page.get_text(), path


def test_mathematics_is_drawn_without_a_script():
    page = (SITE / "reference/initializers/mean_field.html").read_text("utf-8")
    assert '<span class="katex-display">' in page
    assert "<math " in page
    assert "mathjax" not in page.lower()
    fonts = SITE / "_static" / "katex" / "fonts"
    assert (fonts / "KaTeX_Main-Regular.woff2").stat().st_size > 10_000


def test_names_in_text_and_docstrings_are_links(pages):
    assert "variance_map.html" in pages["reference/initializers/mean_field.html"].links
    assert "../reference/initializers/gain.html" in pages["learn/a4_beyond.html"].links
    users = pages["reference/initializers/gain.html"].links
    assert "../../learn/a4_beyond.html" in users
    assert "../../gallery/activation_gains.html" in users


def test_figures_have_a_dark_version():
    page = (SITE / "learn" / "a1_data.html").read_text("utf-8")
    light, dark = (
        re.findall(rf'<img[^>]*class="[^"]*only-{one}[^"]*"', page) for one in ("light", "dark")
    )
    assert len(light) == len(dark) > 0


def test_the_site_is_small():
    assert sum(file.stat().st_size for file in SITE.rglob("*") if file.is_file()) <= 25e6
