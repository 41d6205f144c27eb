"""One experiment on a page of HTML: question, figure beside its claims, script, numbers."""

import html

from experiments import _gallery, _html
from experiments._gallery import Entry
from experiments._inline import to_html
from experiments._log import LOG
from experiments._numbers import of_report
from experiments._pictures import Picture


def make_page(entry: Entry, before: Entry | None, behind: Entry | None) -> str:
    """Return an experiment's page.

    Args:
      entry: What it shows.
      before: The experiment that the page leads back to.
      behind: The one that it leads on to.

    Returns:
      HTML that lies in the experiment's folder.
    """
    key = entry.section.key
    place = html.escape(_gallery.title(key))
    body = f"""<nav aria-label="Gallery"><ul><li><a href="../index.html">Experiments</a></li>
<li><a href="../index.html#{key or "beyond"}">{place}</a></li></ul></nav>
<main>
<h1>{to_html(entry.headline)}</h1>
{_html.verdict(entry)}
{_said(entry, "Question")}
{_html.notes(entry.notes)}
<div class="beside">
{_figures(entry, slice(0, 1), "first")}
<div class="text">
{_headed(entry, "Expected", "Expected")}
{_found(entry)}
{_headed(entry, "Why it matters", "Why")}
{_list(entry)}
</div>
{_figures(entry, slice(1, None), "more")}
</div>
{_headed(entry, "In detail", "Claim")}
{_said(entry, "Source")}
<p>Run it: <code>{html.escape(entry.said.get("Command") or entry.command)}</code></p>
{_said(entry, "Time")}
{_traceback(entry)}
{_script(entry)}
{_numbers(entry)}
{_log(entry)}
</main>
{_turn(before, behind)}"""
    return _html.page(f"{entry.headline} ({entry.name})", body)


def _said(entry: Entry, field: str) -> str:
    text = entry.said.get(field, "")
    return f"<p><strong>{field}:</strong> {to_html(text)}</p>" if text else ""


def _headed(entry: Entry, title: str, field: str) -> str:
    text = entry.said.get(field, "")
    return f"<h2>{title}</h2>\n<p>{to_html(_capital(text))}</p>" if text else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _found(entry: Entry) -> str:
    return f"<h2>Found</h2>\n<p>{to_html(entry.finding)}</p>" if entry.claims else ""


def _list(entry: Entry) -> str:
    return f"<h2>Claims</h2>\n{_html.claims(entry)}" if entry.claims else ""


def _figures(entry: Entry, which: slice, place: str) -> str:
    # the first is within the first screen, so that nothing is gained by loading it late
    figures = "\n".join(
        _figure(entry, picture, place != "first") for picture in entry.pictures[which]
    )
    return f'<div class="{place}">{figures}</div>' if figures else ""


def _figure(entry: Entry, picture: Picture, lazy: bool) -> str:
    alt = f"{picture.alt}. {entry.finding}"
    shown = _html.picture(picture, alt, lazy=lazy)
    caption = f"<figcaption>{html.escape(picture.title)}</figcaption>"
    return f"<figure>{shown}{caption}{_enlarged(picture, alt)}</figure>"


def _enlarged(picture: Picture, alt: str) -> str:
    """Show the SVG as an image: opened by a link it would run what scripts it holds."""
    if not picture.vector:
        return ""
    image = _html.picture(picture._replace(file=picture.vector, dark=None), alt)
    label = html.escape(f"{picture.title}, enlarged")
    return (
        f"<details><summary>Enlarged ({html.escape(picture.vector.name)})</summary>"
        f'<div class="scroll large" role="region" tabindex="0" aria-label="{label}">{image}</div>'
        "</details>"
    )


def _traceback(entry: Entry) -> str:
    if not (entry.last and entry.last.error):
        return ""
    return _folded("Where the last run stopped", entry.last.error)


def _script(entry: Entry) -> str:
    return _folded(f"The script, {entry.path}", entry.script) if entry.script else ""


def _folded(title: str, text: str) -> str:
    return (
        f"<details><summary>{html.escape(title)}</summary>"
        f'<pre tabindex="0"><code>{html.escape(text)}</code></pre></details>'
    )


def _numbers(entry: Entry) -> str:
    report = entry.report
    if not report:
        return ""
    name = report.file
    time = f" It took {report.seconds:.1f} s." if report.seconds is not None else ""
    said = f'<p>All of them are in <a href="{name}">{name}</a>.{time}</p>'
    text = of_report(report)
    folded = _folded("Settings, numbers, versions", text) if text else ""
    return f"<h2>Numbers</h2>\n{said}{folded}"


def _log(entry: Entry) -> str:
    if not (entry.last and entry.last.logged):
        return ""
    return f'<p>What the last run printed is in <a href="{LOG}">{LOG}</a>.</p>'


def _turn(before: Entry | None, behind: Entry | None) -> str:
    # a headline's own links would end this one
    links = [
        f'<a href="../{_html.link(_html.folder_of(entry), "index.html")}">{word}: '
        f"{html.escape(entry.headline)}</a>"
        for word, entry in (("Previous", before), ("Next", behind))
        if entry
    ]
    return f'<nav class="turn" aria-label="Neighbours">{"".join(links)}</nav>' if links else ""
