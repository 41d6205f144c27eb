"""The text of docstrings as HTML and as Markdown: code in backticks, links, and words."""

import html
import re
from collections.abc import Callable

_PIECES = re.compile(r"(`[^`]+`|https?://[^\s<>`]+[\w/])")
_MARKS = re.compile(r"([\\*_<>\[\]$|#~{}@^!&])")


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
        words=lambda words: _MARKS.sub(r"\\\1", words),
        code=lambda code: f"`{code}`",
        link=lambda url: f"<{url}>",
    )


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
