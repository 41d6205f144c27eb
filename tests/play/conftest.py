"""The interactive page, opened from a file in the browser of `tests/conftest.py`."""

import pytest

from docs.play.inline import build


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    """Write the page."""
    out = tmp_path_factory.mktemp("play") / "play.html"
    out.write_text(build(), encoding="utf-8")
    return out


def _opener(browser, page_file):
    contexts = []

    def open_(fragment="", *, file=page_file, **context):
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("requestfailed", lambda request: page.faults.append(request.url))
        page.goto(file.as_uri() + fragment)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def open_page(browser, page_file):
    """Open the page at a fragment, for all tests of a file; `faults` lists its errors."""
    yield from _opener(browser, page_file)


@pytest.fixture
def open_briefly(browser, page_file):
    """Open it for one test: pages that stay open slow down the others."""
    yield from _opener(browser, page_file)
