"""Docstrings in Google style, with Markdown's code and mathematics, as reStructuredText."""

import inspect
import re
from collections.abc import Iterator

SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "Example": "Example",
    "Examples": "Example",
    "References": "References",
}
LISTS = {"Args", "Attributes", "Raises"}
HEADING = re.compile(rf"({'|'.join(SECTIONS)}):\s*(.*)")
ENTRY = re.compile(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*):\s+(.*)", re.DOTALL)
PROMPT = re.compile(r"\s*>>> ")
# code, displayed and inline mathematics: what stands between them is text
SPAN = re.compile(r"(``.+?``|`[^`]+`|\$\$.+?\$\$|\$[^$]+?\$)", re.DOTALL)
# a bullet, a star around words: these stay
EMPHASIS = re.compile(
    r"((?:^|(?<=\n))[ ]*\* |(?<![\w*])\*\w(?:[^*\n]*\w)?\*(?![\w*])|(?<!\*)\*\*\w[^*\n]*\*\*)"
)


def to_rst(docstring: str | None) -> str:
    """Turn a docstring into reStructuredText."""
    blocks = _sections(inspect.cleandoc(docstring or ""))
    return "\n\n".join(filter(None, (_section(title, text) for title, text in blocks))) + "\n"


def summary(docstring: str | None) -> str:
    """Return the first paragraph on one line, as reStructuredText."""
    first = inspect.cleandoc(docstring or "").split("\n\n")[0]
    return _inline(" ".join(first.split()))


def _sections(text: str) -> Iterator[tuple[str, str]]:
    title, lines = "", []
    for line in text.split("\n"):
        found = HEADING.fullmatch(line)
        if found:
            yield title, "\n".join(lines)
            title, lines = found[1], ["  " + found[2]] if found[2] else []
        elif title and line and not line.startswith(" "):  # text goes on after a section
            yield title, "\n".join(lines)
            title, lines = "", [line]
        else:
            lines.append(line)
    yield title, "\n".join(lines)


def _section(title: str, text: str) -> str:
    body = inspect.cleandoc("\n" + text).strip("\n")
    if not body:
        return ""
    if not title:
        return _paragraphs(body)
    if title in LISTS:
        body = "\n".join(_entries(body))
    elif title == "References":
        body = "\n\n".join("* " + _indent(_inline(one), "  ")[2:] for one in _references(body))
    else:
        body = _paragraphs(body)
    return f".. rubric:: {SECTIONS[title]}\n\n{body}"


def _entries(body: str) -> Iterator[str]:
    """Make a definition list of `name: text`, whose further lines are indented."""
    for entry in re.split(r"\n(?=\S)", body):
        found = ENTRY.fullmatch(entry)
        if found is None:
            yield _paragraphs(entry) + "\n"
            continue
        terms = ", ".join(f"``{name}``" for name in found[1].split(", "))
        text = inspect.cleandoc(found[2])
        yield f"{terms}\n{_indent(_paragraphs(text), '   ')}\n"


def _references(body: str) -> list[str]:
    """Split references: one ends with its link or at a blank line."""
    found = re.split(r"(?<=\S)\n(?=\S)|\n\s*\n", body)
    joined: list[str] = []
    for line in found:
        ended = not joined or re.search(r"https?://\S+$", joined[-1]) or joined[-1].endswith(".")
        starts = re.match(r"[A-Z]", line)
        if ended and starts:
            joined.append(line)
        else:
            joined[-1:] = [f"{joined[-1]} {line}" if joined else line]
    return joined


def _paragraphs(text: str) -> str:
    return "\n\n".join(_paragraph(one) for one in re.split(r"\n[ ]*\n", text) if one.strip())


def _paragraph(text: str) -> str:
    if PROMPT.match(text):
        return text
    if text.startswith("|"):
        return _table(text)
    if text.startswith("    "):
        return ".. code-block:: python\n\n" + text
    lines = text.split("\n")
    prompts = [i for i, line in enumerate(lines) if PROMPT.match(line)]
    if prompts:  # an example right under a sentence
        at = prompts[0]
        return _inline("\n".join(lines[:at])) + "\n\n" + "\n".join(lines[at:])
    lists = [i for i, line in enumerate(lines) if re.match(r"\s*(\*|-|\d+\.) ", line)]
    if lists and lists[0] and lists[0] > 0 and not re.match(r"\s*(\*|-|\d+\.) ", lines[0]):
        at = lists[0]
        return _inline("\n".join(lines[:at])) + "\n\n" + _inline("\n".join(lines[at:]))
    return _inline(text)


def _table(text: str) -> str:
    """Turn a table of Markdown into a list of lists."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in text.split("\n")]
    rows = [row for row in rows if not all(set(cell.strip()) <= set("-:") for cell in row)]
    cells = [["- " + _inline(cell.strip()) for cell in row] for row in rows]
    body = "\n".join("   * " + "\n     ".join(row) for row in cells)
    return f".. list-table::\n   :header-rows: 1\n\n{body}"


def _inline(text: str) -> str:
    parts = SPAN.split(text)
    out = ""
    for i, part in enumerate(parts):
        if i % 2 == 0:
            out += _escape(part)
        elif part.startswith("$$"):
            out = out.rstrip() + "\n\n" + _display(part[2:-2], _margin(text)) + "\n\n"
            parts[i + 1] = _margin(text) + parts[i + 1].lstrip(" \n")
        else:
            before = "\\ " if re.search(r"[\w)\]]\Z", out) else ""
            after = "\\ " if re.match(r"[\w(\[]", parts[i + 1]) else ""
            code = part.strip("`")
            role = f":math:`{part[1:-1].strip()}`" if part.startswith("$") else f"``{code}``"
            out += before + role + after
    return out.rstrip()


def _margin(text: str) -> str:
    return re.match(r"[ ]*", text.lstrip("\n"))[0]


def _display(tex: str, margin: str) -> str:
    body = "\n".join(margin + "   " + line.strip() for line in tex.strip().split("\n"))
    return f"{margin}.. math::\n\n{body}"


def _escape(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("|", "\\|")
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    kept = EMPHASIS.split(text)
    kept[::2] = [one.replace("*", "\\*") for one in kept[::2]]
    return "".join(kept)


def _indent(text: str, margin: str) -> str:
    return "\n".join(margin + line if line.strip() else "" for line in text.split("\n"))
