"""What the tests of the built site read from its pages."""

from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"


class Page(NamedTuple):
    """Anchors, links, what is loaded (tag and address), and images (address and text)."""

    anchors: set[str]
    links: set[str]
    loaded: set[tuple[str, str]]
    images: set[tuple[str, str | None]]


class Reader(HTMLParser):
    """Collect the attributes that lead somewhere."""

    def __init__(self):
        super().__init__()
        self.page = Page(set(), set(), set(), set())

    def handle_starttag(self, tag, attrs):
        """Look at one tag."""
        found = dict(attrs)
        self.page.anchors.update(filter(None, (found.get("id"), found.get("name"))))
        if tag == "a" and found.get("href"):
            self.page.links.add(found["href"])
        if tag == "link" and found.get("rel") not in ("canonical", "license", "author"):
            self.page.loaded.add((tag, found.get("href", "")))
        if tag == "img":
            self.page.images.add((found.get("src", ""), found.get("alt")))
        if found.get("src"):
            self.page.loaded.add((tag, found["src"]))
        for part in (found.get("srcset") or "").split(","):
            if part.strip():
                self.page.loaded.add((tag, part.split()[0]))


def read(text):
    """Read the text of one page."""
    reader = Reader()
    reader.feed(text)
    return reader.page


def read_site(site=SITE):
    """Read every page of the site; the paths are relative to it."""
    assert (site / "index.html").is_file(), "there is no site; `make docs` builds it"
    files = sorted(site.rglob("*.html"))
    return {path.relative_to(site).as_posix(): read(path.read_text("utf-8")) for path in files}
