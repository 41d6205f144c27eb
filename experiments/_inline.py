"""The text of docstrings as HTML and as Markdown: code in backticks, links, and words."""

import html
import re
import string
from collections.abc import Callable

_PIECES = re.compile(r"((?<!`)`\s*[^`\s][^`]*`(?!`)|https?://[^\s<>`\x00-\x1f]+[\w/])")
_ESCAPES = {ord(mark): f"\\{mark}" for mark in string.punctuation}


def to_html(text: str) -> str:
    """Return HTML in which nothing but the pieces made here is markup."""
    return _convert(
        text,
        words=html.escape,
        code=lambda code: f"<code>{html.escape(code)}</code>",
        link=lambda url: f'<a href="{html.escape(url)}">{html.escape(url)}</a>',
    )


def to_markdown(text: str) -> str:
    """Return Markdown of one paragraph that says the same."""
    return _convert(
        " ".join(text.split()),
        words=lambda words: words.translate(_ESCAPES),
        code=code_to_markdown,
        link="<{}>".format,
    )


def to_cell(text: str) -> str:
    """Return the same for a table, where a bar within code would end the cell, too."""
    return to_markdown(text).replace("|", r"\|")


def words_to_markdown(text: str) -> str:
    """Return Markdown of one line without code or links: a backslash before every mark there is."""
    return " ".join(text.split()).translate(_ESCAPES)


def code_to_markdown(text: str) -> str:
    """Return code on one line, between more backticks than it has in a row."""
    marks = fence(text, "`", 1)
    room = " " if len(marks) > 1 else ""
    return f"{marks}{room}{' '.join(text.split())}{room}{marks}"


def fence(text: str, mark: str, least: int) -> str:
    """Return a fence that is longer than all in a text."""
    longest = max(map(len, re.findall(f"{mark}+", text)), default=0)
    return mark * max(least, longest + 1)


def _convert(
    text: str,
    *,
    words: Callable[[str], str],
    code: Callable[[str], str],
    link: Callable[[str], str],
) -> str:
    said = []
    for i, piece in enumerate(_PIECES.split(text)):
        if i % 2 == 0:
            said.append(words(piece))
        elif piece[0] == "`":
            said.append(code(piece[1:-1]))
        else:
            said.append(link(piece))
    return "".join(said)
