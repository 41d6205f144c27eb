"""A browser for the tests of the interactive page, which is opened from a file."""

import shutil

import pytest

from docs.play.inline import build

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the interactive page is tested through playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser():
    """Start Chromium once; the tests are skipped only where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    """Write the page."""
    out = tmp_path_factory.mktemp("play") / "play.html"
    out.write_text(build(), encoding="utf-8")
    return out


@pytest.fixture(scope="session")
def open_page(browser, page_file):
    """Open the page, by default as built, at a fragment; errors on the page fail the test."""

    def open_(fragment="", *, file=page_file, **context):
        page = browser.new_context(**context).new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("requestfailed", lambda request: page.faults.append(request.url))
        page.goto(file.as_uri() + fragment)
        return page

    return open_
