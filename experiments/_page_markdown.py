"""One experiment on a page of Markdown, for the documentation's builder."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments import _catalog, _gallery, _pictures
from experiments._claims import Claim
from experiments._files import plain
from experiments._gallery import Entry
from experiments._inline import code_to_markdown, fence, to_markdown
from experiments._numbers import of_report
from experiments._pictures import Picture

IMAGES = "images"
# Without the list of headings beside it a page has room for claims beside figures; headlines are
# sentences, which as large as titles would leave no room for a figure on the first screen.
HEAD = """---
html_theme.sidebar_secondary.remove: true
made_by: python -m experiments gallery
---
"""
SMALL_TITLES = """```{raw} html
<style>.bd-article h1 { font-size: clamp(1.3rem, 1rem + 1.6vw, 2rem); margin-top: 0; }
.bd-article h2 { font-size: 1.4rem; }</style>
```"""


def file_of(entry: Entry) -> str:
    """Return what an experiment's page is called, without its ending."""
    return plain(entry.name, *_catalog.PAGES)


def make_page(entry: Entry, images: Path) -> str:
    """Return an experiment's page, and put its figures in place.

    Args:
      entry: What it shows.
      images: The folder `images` beside the page.

    Returns:
      Markdown.
    """
    pieces = [
        f"# {to_markdown(entry.headline)}",
        SMALL_TITLES,
        f"{to_markdown(_gallery.title(entry.section.key))}: {verdict(entry)}",
        _said(entry, "Question"),
        _notes(entry),
        _beside(entry, images),
        _said(entry, "Claim", "In detail"),
        _said(entry, "Source"),
        f"**Run it:** {code_to_markdown(entry.said.get('Command') or entry.command)}",
        _said(entry, "Time"),
        *_folded_parts(entry),
    ]
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def _beside(entry: Entry, images: Path) -> str:
    """Put the figures beside what was expected, found, and claimed; above it on a phone."""
    text = [
        _said(entry, "Expected"),
        f"**Found:** {to_markdown(entry.finding)}" if entry.claims else "",
        _said(entry, "Why", "Why it matters"),
        _list(entry),
    ]
    said = "\n\n".join(piece for piece in text if piece)
    if not entry.pictures:
        return said
    figures = "\n\n".join(_figure(shown, entry, images) for shown in entry.pictures)
    return (
        "::::{grid} 1 1 1 2\n:gutter: 4\n\n"
        f":::{{grid-item}}\n:columns: 12 12 12 7\n\n{figures}\n:::\n"
        f":::{{grid-item}}\n:columns: 12 12 12 5\n\n{said}\n:::\n::::"
    )


def _folded_parts(entry: Entry) -> list[str]:
    parts = []
    if entry.last and entry.last.error:
        parts.append(_folded("Where the last run stopped", _code("text", entry.last.error)))
    if entry.script:
        parts.append(
            _folded(f"The script, {code_to_markdown(entry.path)}", _code("python", entry.script))
        )
    return [*parts, _numbers(entry)]


def _said(entry: Entry, field: str, title: str = "") -> str:
    text = entry.said.get(field, "")
    return f"**{title or field}:** {to_markdown(text)}" if text else ""


def _notes(entry: Entry) -> str:
    said = "\n\n".join(to_markdown(note) for note in entry.notes)
    return f":::{{note}}\n{said}\n:::" if said else ""


def verdict(entry: Entry) -> str:
    """Say how an experiment stands, and how many of its claims hold."""
    return f"**{_gallery.WORDS[entry.kind]}** {entry.counts}".rstrip()


def _figure(shown: Picture, entry: Entry, images: Path) -> str:
    alt = f"{shown.alt}. {entry.finding}"
    small = _pictures.small(shown, images / file_of(entry))
    return f"{picture(small, alt, images / file_of(entry))}\n*{to_markdown(shown.title)}*"


def picture(shown: Picture, alt: str, folder: Path) -> str:
    """Show a picture, and its dark version where the page is dark.

    Args:
      shown: Its files; a PNG lies in the folder already.
      alt: What is seen.
      folder: The experiment's own in the folder `images` beside the page.

    Returns:
      Markdown.
    """
    light = _image(shown.file, alt, folder, "only-light" if shown.dark else "")
    return light + (_image(shown.dark, alt, folder, "only-dark") if shown.dark else "")


def _image(file: Path, alt: str, folder: Path, kind: str) -> str:
    name = file.name
    if file.suffix == ".svg":
        name = f"{plain(file.stem)}.svg"
        _pictures.copy(file, folder, name)
    # options are YAML: a sentence with a colon or a number sign would end early
    said = json.dumps(" ".join(alt.split()), ensure_ascii=False)
    lines = [f"```{{image}} {IMAGES}/{folder.name}/{name}", f":alt: {said}", ":loading: lazy"]
    return "\n".join([*lines, *([f":class: {kind}"] if kind else []), "```", ""])


def _list(entry: Entry) -> str:
    if not entry.claims:
        return ""
    items = "\n".join(_claim(claim, claim is entry.main_claim) for claim in entry.claims)
    return f"**Claims**\n\n{items}{footnote(entry.claims)}"


def _claim(claim: Claim, main: bool) -> str:
    text = to_markdown(claim.text) + ("" if claim.required else r" \*")
    text = f"**{text}**" if main else text
    parts = (claim.shown_number, claim.threshold, claim.verdict)
    return "- {}\\\n  {}, threshold {}: {}".format(text, *map(to_markdown, parts))


def footnote(claims: Sequence[Claim]) -> str:
    """Say what the star means, if there is one."""
    star = any(not claim.required for claim in claims)
    return "\n\n\\* may fail without failing the run." if star else ""


def _numbers(entry: Entry) -> str:
    text = of_report(entry.report) if entry.report else ""
    return _folded("Settings, numbers, versions", _code("text", text)) if text else ""


def _folded(title: str, body: str) -> str:
    marks = fence(body, ":", 4)
    return f"{marks}{{dropdown}} {title}\n{body}\n{marks}"


def _code(language: str, text: str) -> str:
    """Show code as it is; a plain fence of Python would be run when the page is built."""
    marks = fence(text, "`", 5)
    # with an option of our own first, no line of the text is read as one
    return f"{marks}{{code-block}} {language}\n:force:\n\n{text.rstrip()}\n{marks}"
