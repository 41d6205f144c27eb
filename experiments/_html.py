"""Pieces of pages: the frame, pictures, claims, notes. They need no server and no script."""

import html
import os
from collections.abc import Sequence
from urllib.parse import quote

from experiments import _catalog, _gallery, _pictures, _style
from experiments._claims import Claim
from experiments._files import plain
from experiments._gallery import Entry
from experiments._inline import to_html
from experiments._pictures import Picture


def page(title: str, body: str) -> str:
    """Return a whole page."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_style.CSS}</style></head><body>
{body}
</body></html>
"""


def link(*names: str) -> str:
    """Return the address of a file whose folders have these names; no name is more than a name."""
    return "/".join(quote(os.fsencode(name), safe="") for name in names)


def folder_of(entry: Entry) -> str:
    """Return what the folder of an experiment's page is called: no page of the gallery's own."""
    pages = [f"{page}.html" for page in _catalog.PAGES]
    return plain(entry.name, *pages) if entry.name in pages else entry.name


def picture(shown: Picture, alt: str, *folder: str, lazy: bool = True) -> str:
    """Show a figure, the dark one on a dark page.

    Args:
      shown: Its files.
      alt: What is seen.
      *folder: Where the files lie as seen from the page, if not beside it.
      lazy: Whether it is loaded only when it comes into view.

    Returns:
      HTML.
    """
    size = _pictures.size(shown.file)
    room = f' width="{size[0]}" height="{size[1]}"' if size else ""
    late = ' loading="lazy"' if lazy else ""
    dark = (
        f'<source media="(prefers-color-scheme: dark)" srcset="{link(*folder, shown.dark.name)}">'
        if shown.dark
        else ""
    )
    return (
        f'<picture>{dark}<img src="{link(*folder, shown.file.name)}" alt="{html.escape(alt)}"'
        f"{room}{late}></picture>"
    )


def verdict(entry: Entry) -> str:
    """Say how an experiment stands, and how many of its claims hold."""
    counts = f' <span class="counts">{entry.counts}</span>' if entry.counts else ""
    word = _gallery.WORDS[entry.kind]
    return f'<p class="verdict"><span class="{entry.kind}">{word}</span>{counts}</p>'


def notes(sentences: Sequence[str]) -> str:
    """Say what is missing or wrong; nothing where nothing is."""
    if not sentences:
        return ""
    said = "".join(f"<p>{to_html(sentence)}</p>" for sentence in sentences)
    return f'<div class="notes">{said}</div>'


def claims(entry: Entry) -> str:
    """List an experiment's claims with what was measured."""
    items = "".join(_claim(claim, claim is entry.main_claim) for claim in entry.claims)
    return f'<ul class="claims">{items}</ul>{footnote(entry.claims)}' if items else ""


def footnote(listed: Sequence[Claim]) -> str:
    """Say what the star means, if there is one."""
    star = any(not claim.required for claim in listed)
    return '<p class="counts">* may fail without failing the run.</p>' if star else ""


def _claim(claim: Claim, main: bool) -> str:
    star = "" if claim.required else " *"
    return (
        f'<li class="{"main" if main else "other"}">{to_html(claim.text)}{star}<br>'
        f'<span class="numbers">{html.escape(claim.shown_number)}, threshold '
        f"{html.escape(claim.threshold)}</span> {said_verdict(claim)}</li>"
    )


def said_verdict(claim: Claim) -> str:
    """Return a claim's verdict in its colour."""
    return f'<span class="{_gallery.kind_of(claim)}">{html.escape(claim.verdict)}</span>'
