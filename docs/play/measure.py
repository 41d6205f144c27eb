"""Measure the page's budgets: `python -m docs.play.measure [axe.min.js]`.

Prints the size, the time to the first picture, that of drag frames and what both take of the
processor, for each widget and some widths; with a copy of axe-core (npm's) also what it finds, in
light and dark. No test decides by these times: they are those of the machine.
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from docs.play.inline import LARGEST, build

WIDTHS = (320, 390, 1280)
FRAMES = 120
FIRST, FRAME = 500, 33  # milliseconds


def main(axe: str | None) -> None:
    """Print a line for each widget, width and scheme."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "play.html"
        file.write_text(build(), encoding="utf-8")
        print(f"size: {file.stat().st_size} bytes of {LARGEST}")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(file.as_uri())
        widgets = page.locator("nav a").evaluate_all("all => all.map((a) => a.hash)")
        for widget in widgets:
            for width in WIDTHS:
                print(f"{widget} at {width} px: {times(browser, file, widget, width)}")
                for scheme in ("light", "dark") if axe else ():
                    print(
                        f"  axe, {scheme}: {violations(browser, file, widget, width, scheme, axe)}"
                    )
        browser.close()


def open_at(browser: Browser, file: Path, widget: str, width: int, scheme: str = "light") -> Page:
    """Open a widget with its pictures on view."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(f"{file.as_uri()}{widget}&guess=skip")
    return page


def times(browser: Browser, file: Path, widget: str, width: int) -> str:
    """Time the first picture and the frames of a drag in circles."""
    page = open_at(browser, file, widget, width)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    first = page.evaluate("performance.getEntriesByName('first-picture')[0].startTime")
    page.wait_for_timeout(500)
    opened = processor_time(session)
    page.evaluate("play.now().frames.length = 0")
    grip = page.locator(".grip").first
    if grip.count():
        grip.scroll_into_view_if_needed()
        box = grip.bounding_box()
        x, y = box["x"] + 22, box["y"] + 22
        page.mouse.move(x, y)
        page.mouse.down()
        for i in range(FRAMES):
            page.mouse.move(x - i % 40, y + (i * 7) % 60)
        page.mouse.up()
    page.wait_for_timeout(100)
    frames = page.evaluate("play.now().frames")
    dragged = processor_time(session) - opened
    page.close()
    start = f"first picture {first:.0f} ms of {FIRST}, {opened:.0f} ms of processor until at rest"
    if len(frames) < 2:
        return f"{start}; nothing to drag"
    share = statistics.quantiles(frames, n=20)[-1]
    return (
        f"{start}; {len(frames)} drag frames, median {statistics.median(frames):.1f}, "
        f"95 % below {share:.1f} ms of {FRAME}, {dragged / len(frames):.1f} ms of processor each"
    )


def processor_time(session: CDPSession) -> float:
    """Return the milliseconds that the page has used of the processor, over all its threads."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(1e3 * one["value"] for one in metrics if one["name"] == "ProcessTime")


def violations(browser: Browser, file: Path, widget: str, width: int, scheme: str, axe: str) -> str:
    """Return what axe-core finds, by rule, with the first element of each."""
    page = open_at(browser, file, widget, width, scheme)
    page.add_script_tag(path=axe)
    found = page.evaluate("axe.run().then((r) => r.violations)")
    page.close()
    lines = [f"{v['impact']} {v['id']}: {v['nodes'][0]['html'][:90]}" for v in found]
    return "; ".join(lines) or "nothing"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
