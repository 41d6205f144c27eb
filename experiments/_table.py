"""The table of all claims in `README.md`, made from the docstrings."""

import re

from experiments import _catalog

START, END = "<!-- made by: python -m experiments table -->", "<!-- end of the table -->"


def make() -> str:
    """Return the table in Markdown, one for each part of the tutorials."""
    sections = []
    for part, names in _catalog.by_part().items():
        rows = "\n".join(_row(part, name) for name in names)
        sections.append(
            f"### {part}\n\n{_catalog.title(part)}\n\n"
            "| claim | script | section | expected | time |\n"
            f"| --- | --- | --- | --- | --- |\n{rows}\n"
        )
    return "\n".join(sections)


def _row(part: str, name: str) -> str:
    said = _catalog.fields(name)
    # what comes behind the first semicolon are papers and remarks
    section = said["Source"].partition(";")[0].removesuffix(".")
    link = f"[{name}]({part}/{name}.py)"
    expected, time = (said[field].removesuffix(".") for field in ("Expected", "Time"))
    cells = [_escape(_catalog.summary(name)), link, *map(_escape, (section, expected, time))]
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Take what Markdown would read as its own for what it is, outside of `code`."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"([*<\\])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces).replace("|", r"\|")


def insert(page: str) -> str:
    """Return a page with the table between its two marks.

    Raises:
      ValueError: If the marks are not there.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"experiments/README.md needs the lines '{START}' and '{END}'")
    return f"{before}{start}\n\n{make()}\n{end}{after}"


def write() -> str:
    """Put the table into `README.md` and return what was done."""
    file = _catalog.FOLDER / "README.md"
    file.write_text(insert(file.read_text(encoding="utf-8")), encoding="utf-8")
    return f"Wrote the table of {len(_catalog.find())} experiments into {file}"
