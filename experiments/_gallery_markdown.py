"""The gallery as Markdown for the documentation's builder: cards, pages, the table of claims."""

from collections.abc import Sequence
from pathlib import Path

from experiments import _gallery, _pictures
from experiments._files import write_text
from experiments._gallery import Entry
from experiments._inline import to_cell, to_markdown, words_to_markdown
from experiments._page_markdown import (
    HEAD,
    IMAGES,
    SMALL_TITLES,
    file_of,
    footnote,
    make_page,
    picture,
    verdict,
)
from experiments._pictures import in_words


def write(results: Path, to: Path) -> Path:
    """Write `index.md`, `claims.md`, a page for every experiment, and their figures.

    Args:
      results: The folder with one subfolder an experiment; it need not exist.
      to: Where pages go; figures go to `images/NAME/` there.

    Returns:
      The path of `index.md`.
    """
    entries = _gallery.collect(results)
    to.mkdir(parents=True, exist_ok=True)
    for old in to.glob("*.md"):  # of scripts that were renamed since
        if old.is_file() and old.read_bytes().startswith(HEAD.encode()):
            old.unlink()
    for entry in entries:
        write_text(to / f"{file_of(entry)}.md", f"{HEAD}\n{make_page(entry, to / IMAGES)}")
    write_text(to / "claims.md", f"{HEAD}\n{_claims(entries)}")
    path = to / "index.md"
    write_text(path, f"{HEAD}\n{_index(entries, to / IMAGES)}")
    return path


def _index(entries: Sequence[Entry], images: Path) -> str:
    sections = "\n\n".join(
        f"({_target(key)})=\n\n## {to_markdown(_gallery.title(key))}\n\n"
        "::::{grid} 1 2 2 3\n:gutter: 3\n\n"
        f"{''.join(_card(entry, images) for entry in group)}::::"
        for key, group in _gallery.by_section(entries).items()
    )
    jumps = " ·\n".join(
        f"[{to_markdown(_gallery.title(key))}](#{_target(key)})"
        for key in _gallery.by_section(entries)
    )
    claims = [claim for entry in entries for claim in entry.claims]
    names = "\n".join(["claims", *map(_listed, entries)])
    return f"""# Gallery

{SMALL_TITLES}

What the two tutorials claim, and what goes on from them, measured: {len(entries)} experiments.
{_gallery.count(claims)}. [The table of all claims](claims.md)

{jumps}

{sections}

```{{toctree}}
:hidden:

{names}
```
"""


def _listed(entry: Entry) -> str:
    title = " ".join(in_words(entry.name).split())
    # with its ending, for of `a.md <a.md>` Sphinx would look for the page `a`
    return f"{title} <{file_of(entry)}.md>"


def _target(key: str) -> str:
    return f"gallery-{key.lower() or 'beyond'}"


def _card(entry: Entry, images: Path) -> str:
    further = entry.section.beyond and entry.section.key
    lines = [
        ":::{grid-item-card}",
        f":link: {file_of(entry)}",
        ":link-type: doc",
        "",
    ]
    if entry.pictures:
        folder = images / file_of(entry)
        small = _pictures.thumbnail(entry.pictures, folder)
        lines += [picture(small, entry.finding, folder)]
    lines += [f"**{to_markdown(entry.headline)}**", "", verdict(entry)]
    lines += ["", "*goes on from the tutorial*"] if further else []
    return "\n".join([*lines, ":::", "", ""])


def _claims(entries: Sequence[Entry]) -> str:
    tables = "\n\n".join(
        f"## {to_markdown(_gallery.title(key))}\n\n"
        "| experiment | claim | measured | threshold | verdict |\n| --- | --- | --: | --: | --- |\n"
        + "\n".join(row for entry in group for row in _rows(entry))
        for key, group in _gallery.by_section(entries).items()
    )
    claims = [claim for entry in entries for claim in entry.claims]
    return f"# All claims\n\n{_gallery.count(claims)}.{footnote(claims)}\n\n{tables}\n"


def _rows(entry: Entry) -> list[str]:
    link = f"[{words_to_markdown(entry.name)}]({file_of(entry)}.md)"
    rows = [
        [
            to_cell(claim.text) + ("" if claim.required else r" \*"),
            *map(to_cell, (claim.shown_number, claim.threshold, claim.verdict)),
        ]
        for claim in entry.claims
    ]
    if not rows or entry.kind in _gallery.ILL:
        rows.append(["", "", "", _gallery.WORDS[entry.kind]])
    return [f"| {' | '.join([link, *row])} |" for row in rows]
