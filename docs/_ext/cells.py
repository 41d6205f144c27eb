"""Pages are plain Markdown: their ```python fences become cells when the site is built."""

import json
import logging
import os
import re
from pathlib import Path

# any fence: what looks like a cell within another one is a text that is shown
FENCE = re.compile(
    r"^(?P<marks>`{3,})(?P<word>[^`\n]*)\n(?P<code>.*?)^(?P=marks)`*[ ]*$",
    re.MULTILINE | re.DOTALL,
)
WORDS = re.compile(r"# (solution|alt|caption)\b:?[ ]*(.*)")
FRONT = """\
---
file_format: mystnb
kernelspec:
  name: python3
language_info:
  name: python
  pygments_lexer: ipython3
---
"""
START = Path(__file__).with_name("kernel_start.py")


def to_notebook(text: str) -> str:
    """Turn the fences of a page into cells of one notebook; a page without any stays as it is."""
    if not codes(text):
        return text
    start = _cell(START.read_text(encoding="utf-8"), {"tags": ["remove-cell"]})
    # what starts the kernel comes behind the title, which must stay the first thing on the page
    title = re.match(r"\s*# .*\n", text)
    at = title.end() if title else 0
    body = FENCE.sub(
        lambda found: to_cell(found["code"]) if _is_cell(found) else found[0], text[at:]
    )
    return f"{FRONT}{text[:at]}\n{start}\n{body}"


def codes(text: str) -> list[str]:
    """Return what stands in the fences of a page that are to be cells."""
    return [found["code"] for found in FENCE.finditer(text) if _is_cell(found)]


def _is_cell(found: re.Match[str]) -> bool:
    return (found["marks"], found["word"]) == ("```", "python")


def to_cell(code: str) -> str:
    """Turn the code of a fence into a cell; words in its first comments say how it is shown."""
    lines = code.split("\n")
    said: dict[str, str] = {}
    while found := WORDS.fullmatch(lines[0]):
        said[found[1]] = found[2]
        del lines[0]
    shown: dict[str, object] = {}
    if "alt" in said:
        shown["image"] = {"alt": said["alt"]}
    if "caption" in said:
        shown["figure"] = {"caption": said["caption"]}
    options: dict[str, object] = {"mystnb": shown} if shown else {}
    if "solution" in said:
        shown["code_prompt_show"] = "Show the solution"
        shown["code_prompt_hide"] = "Hide the solution"
        options = {"mystnb": shown, "tags": ["hide-cell"]}
    return _cell("\n".join(lines), options)


def _cell(code: str, options: dict[str, object]) -> str:
    # JSON is YAML, and needs no care with colons and quotes
    head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in options.items())
    head = f"---\n{head}---\n" if head else ""
    return f"```{{code-cell}} python\n{head}{code.strip()}\n```"


def _read(app, docname, content):
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        content[0] = to_notebook(content[0])


def configure_kernels_in(folder: Path) -> None:
    """Start kernels without the user's own configuration, and without a warning from each."""
    own = folder / "profile_default/ipython_kernel_config.py"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("c.IPKernelApp.log_level = 40\n", encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(folder)
    logging.getLogger("traitlets").setLevel(logging.WARNING)


def setup(app):
    """Register the hook."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
