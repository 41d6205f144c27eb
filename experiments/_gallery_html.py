"""The gallery as a folder of pages that need neither a server nor JavaScript."""

import html
from collections.abc import Sequence
from pathlib import Path

from experiments import _gallery, _html, _pictures
from experiments._files import write_text
from experiments._gallery import Entry
from experiments._page_html import make_page

NAME = "Experiments of jaxopt_tut"


def write(results: Path, to: Path, interrupted: Sequence[str] = ()) -> Path:
    """Write `index.html`, `claims.html`, and a page for each experiment that has a folder.

    Args:
      results: The folder with one subfolder an experiment.
      to: Where pages go, the same folder or another one; figures are copied there.
      interrupted: The experiments that a run was to make and did not end.

    Returns:
      The path of `index.html`.
    """
    entries = _gallery.collect(results)
    shown = [entry for entry in entries if entry.last]
    to.mkdir(parents=True, exist_ok=True)
    for i, entry in enumerate(shown):
        folder = to / _html.folder_of(entry)
        folder.mkdir(exist_ok=True)
        for file in _files(entry):
            _pictures.copy(file, folder)
        write_text(folder / "index.html", make_page(entry, *_gallery.neighbours(shown, i)))
    write_text(to / "claims.html", _claims(shown))
    path = to / "index.html"
    write_text(path, _index(entries, to, interrupted))
    return path


def _files(entry: Entry) -> list[Path]:
    """Return what a page shows or links to."""
    figures = [file for picture in entry.pictures for file in picture[1:] if file]
    folder = entry.last.folder if entry.last else Path()
    kept = [folder / name for name in ("result.json", "last_complete.json", "log.txt")]
    return [*figures, *(file for file in kept if file.is_file())]


def _index(entries: Sequence[Entry], to: Path, interrupted: Sequence[str]) -> str:
    shown = _gallery.by_section(entry for entry in entries if entry.last)
    jumps = "".join(
        f'<li><a href="#{key or "beyond"}">{html.escape(_gallery.title(key))}</a></li>'
        for key in shown
    )
    sections = "\n".join(
        f'<section id="{key or "beyond"}"><h2>{html.escape(_gallery.title(key))}</h2>\n'
        f'<ul class="cards">{"".join(_card(entry, to) for entry in group)}</ul></section>'
        for key, group in shown.items()
    )
    ran = [entry for group in shown.values() for entry in group]
    errors = sum(entry.kind in ("error", "unreadable") for entry in ran)
    ill = f"; {errors} stopped with an error or cannot be read" if errors else ""
    claims = [claim for entry in ran for claim in entry.claims]
    body = f"""<header><h1>{NAME}</h1>
<p>What the two tutorials claim, and what goes on from them, measured. {_count(len(ran))},
{_gallery.count(claims)}{ill}.
<a href="claims.html">The table of all claims</a></p>
{_interruption(interrupted, ran)}
<nav aria-label="Sections"><ul>{jumps}</ul></nav></header>
<main>
{sections}
{_not_run([entry for entry in entries if not entry.last])}
</main>"""
    return _html.page(NAME, body)


def _count(number: int) -> str:
    return f"{number} experiment{'' if number == 1 else 's'}"


def _card(entry: Entry, to: Path) -> str:
    if entry.pictures:
        folder = _html.folder_of(entry)
        small = _pictures.thumbnail(entry.pictures, to / folder)
        picture = _html.picture(small, entry.finding, folder)
    else:
        picture = '<div class="blank counts">no figure</div>'
    further = '<p class="place">goes on from the tutorial</p>' if _goes_on(entry) else ""
    return (
        f'<li class="card"><h3><a href="{_html.link(_html.folder_of(entry), "index.html")}">'
        f"{html.escape(entry.headline)}</a></h3>{picture}{_html.verdict(entry)}{further}</li>\n"
    )


def _goes_on(entry: Entry) -> bool:
    return entry.section.beyond and bool(entry.section.key)


def _not_run(entries: Sequence[Entry]) -> str:
    if not entries:
        return ""
    items = "".join(
        f"<li>{html.escape(entry.headline)} <code>{html.escape(entry.command)}</code></li>"
        for entry in entries
    )
    return f'<section id="not-run"><h2>Not run</h2><ul>{items}</ul></section>'


def _interruption(names: Sequence[str], ran: Sequence[Entry]) -> str:
    """Say which experiments an interrupted run did not end, and what is shown of them."""
    if not names:
        return ""
    old = {entry.name for entry in ran}
    shown = {name: "shown from an earlier run" if name in old else "not shown" for name in names}
    items = "".join(f"<li>{html.escape(name)}: {how}</li>" for name, how in shown.items())
    return f"""<div class="notes"><p>The last run was interrupted. Not run to the end:</p>
<ul>{items}</ul></div>"""


def _claims(entries: Sequence[Entry]) -> str:
    tables = "\n".join(
        f"<h2>{html.escape(_gallery.title(key))}</h2>\n{_table(_gallery.title(key), group)}"
        for key, group in _gallery.by_section(entries).items()
    )
    claims = [claim for entry in entries for claim in entry.claims]
    body = f"""<nav aria-label="Gallery"><a href="index.html">{NAME}</a></nav>
<main><h1>All claims</h1>
<p>{_gallery.count(claims)}.</p>{_html.footnote(claims)}
{tables}
</main>"""
    return _html.page(f"All claims: {NAME}", body)


def _table(title: str, entries: Sequence[Entry]) -> str:
    rows = "\n".join(row for entry in entries for row in _rows(entry))
    heads = "".join(
        f'<th scope="col">{word}</th>'
        for word in ("experiment", "claim", "measured", "threshold", "verdict")
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(title)}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )


def _rows(entry: Entry) -> list[str]:
    page = _html.link(_html.folder_of(entry), "index.html")
    link = f'<td><a href="{page}">{html.escape(entry.name)}</a></td>'
    rows = [
        f'<tr>{link}<td class="text">{html.escape(claim.text)}{"" if claim.required else " *"}</td>'
        f'<td class="number" data-label="measured">{html.escape(claim.shown_number)}</td>'
        f'<td class="number" data-label="threshold">{html.escape(claim.threshold)}</td>'
        f'<td class="verdict">{_html.said_verdict(claim)}</td></tr>'
        for claim in entry.claims
    ]
    if entry.kind in _gallery.ILL:
        word = _gallery.WORDS[entry.kind]
        rows.append(f'<tr>{link}<td colspan="3"></td><td class="{entry.kind}">{word}</td></tr>')
    return rows
