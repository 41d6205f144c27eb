"""What others wrote is text on the gallery's pages, whatever marks it has.

Pages of hostile texts and names are compared with those of plain ones: they have the same elements.
"""

import ast
import functools
import html
import json
import re
import struct
import tempfile
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs._ext.cells import to_notebook
from experiments import _catalog
from experiments.__main__ import main
from experiments._page_markdown import SMALL_TITLES
from tests.experiments.galleries import write

CONF = Path(__file__).parents[2] / "docs" / "conf.py"
LINES = ["\n```python\nx\n```\n", "\n:::\n", "\n::::\n", "\n`````\n", "\n---\n", "\n:class: x\n\n"]
MARKS = [
    *(
        "`",
        "``",
        "```",
        "~~~",
        ":::",
        "{",
        "}",
        "{raw} html",
        "{eval-rst}",
        "{py:class}`x`",
        "{.x}",
    ),
    *(
        "<script>",
        "</script>",
        "<img src=x onerror=alert(1)>",
        "<!--",
        "-->",
        "&lt;",
        "&#96;",
        "</p>",
    ),
    *("[a](javascript:alert(1))", "![a](x)", "[", "]", "](", "[^a]", "[^a]: b", "<javascript:x>"),
    *("javascript:x", "https://a.org/b|c", "http://", "<https://a.org>", "https://a.org/</script>"),
    *("|", "\n", "\n\n", "\r", "\x0c", "\u2028", "    ", "\t", "\\", "\\`", "\0", "\ud800", "\x1b"),
    *(
        "$",
        "$$",
        "*",
        "**",
        "_",
        "- ",
        "1. ",
        "# ",
        "> ",
        ": ",
        "+++",
        "% ",
        "(x)=\n",
        "===",
        '"',
        "'",
    ),
    *(*LINES, "a", "b", " "),
]
# a blank text is none, and its element is not there
TEXT = st.lists(st.sampled_from(MARKS), max_size=8).map(lambda marks: f"{''.join(marks)}a")
FIELDS = [field for field in _catalog.FIELDS if field != "Section"]


def as_name(text):
    """Return what of a text can be a file's name."""
    return re.sub("[/\0\ud800]", "", text)[-60:].lstrip(".")


def make(folder, text, name):
    """Return results of two experiments, the second without a script."""
    said = "".join(f"\n\n{field}: {text}" for field in FIELDS)
    docstring = f"{text.strip()}\n\nSection: A4{said}\n".encode(errors="replace").decode()
    scripts = folder / "scripts"
    (scripts / "part").mkdir(parents=True)
    (scripts / "part" / "grows.py").write_text(f"{docstring!r}\n{LINES}\n", "utf-8")
    claim = {"text": text, "measured": 1.0, "threshold": text, "shown": text, "holds": True}
    claims = [
        {**claim, "required": False},
        {**claim, "text": f"{text}a", "headline": True, "original": text},
    ]
    report = {
        "description": docstring,
        "claims": claims,
        "figures": [name],
        "numbers": {text: [text, {text: text}]},
        "config": text,
        "versions": {text: text},
    }
    for place, error in (("grows", None), (name, f"{text}\n{text}")):
        (folder / "results" / place).mkdir(parents=True)
        drawing = f"<svg><title>{html.escape(text)}</title></svg>"
        for ending in ("svg", "dark.svg"):
            file = folder / "results" / place / f"{name}.{ending}"
            file.write_text(drawing, "utf-8", "replace")
        found = json.dumps({**report, "error": error})
        (folder / "results" / place / "result.json").write_text(found, "utf-8")
    return folder / "results", scripts


def elements(form, text, name):
    """Write the gallery of such results and return the elements of each of its pages, in order."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        results, scripts = make(Path(folder), text, name)
        patch.setattr(_catalog, "FOLDER", scripts)
        to = Path(folder, "to")
        write(results, form, to)
        read = {"html": HtmlReader, "markdown": MarkdownReader}[form]
        suffix = {"html": ".html", "markdown": ".md"}[form]
        grows = "grows/index.html" if form == "html" else "grows.md"
        known = [to / f"index{suffix}", to / f"claims{suffix}", to / grows]
        (other,) = {file for file in to.rglob(f"*{suffix}") if file.is_file()} - {*known}
        return [read(file).found for file in [*known, other]]


def assert_leads_somewhere(page, link):
    """A link of a page leads to what was written beside it, and nowhere else."""
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc) == ("", "")
    if parts.path:
        target = (page.parent / unquote(parts.path, errors="surrogateescape")).resolve()
        assert target.exists(), link


class HtmlReader(HTMLParser):
    """Collects tags with the names of their attributes, but for code and links within texts."""

    def __init__(self, file):
        super().__init__()
        self.file, self.found, self.open = file, [], []
        self.feed(file.read_text("utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        made = tag == "code" or given.get("href", "").startswith(("http://", "https://"))
        if tag not in ("meta", "img", "br", "source"):
            self.open.append((tag, made))
        if not made:
            self.found.append((tag, *(key if key in LINKS else (key, given[key]) for key in given)))
            for key in LINKS & given.keys() - {"alt", "aria-label"}:
                assert_leads_somewhere(self.file, given[key])

    def handle_endtag(self, tag):
        last, made = self.open.pop()
        assert last == tag
        if not made:
            self.found.append(f"/{tag}")

    def handle_comment(self, data):
        raise AssertionError(data)


LINKS = {"href", "src", "srcset", "alt", "aria-label"}
"""Attributes that hold what others wrote, words among them."""


class MarkdownReader:
    """Collects the elements of a page of the documentation, but for code and links within texts."""

    HOLD = ("grid", "grid-item", "grid-item-card", "note", "dropdown")

    def __init__(self, file):
        mdit = pytest.importorskip("myst_parser.parsers.mdit", reason="MyST reads such pages")
        from markdown_it.renderer import RendererHTML
        from myst_parser.config.main import MdParserConfig

        said = {
            node.targets[0].id.removeprefix("myst_"): ast.literal_eval(node.value)
            for node in ast.parse(CONF.read_text("utf-8")).body
            if isinstance(node, ast.Assign) and node.targets[0].id.startswith("myst_")
        }
        assert said["enable_extensions"]
        self.parser = mdit.create_md_parser(MdParserConfig(**said), RendererHTML)
        self.file, self.found = file, []
        text = file.read_text("utf-8")
        assert to_notebook(text) == text  # there is no cell that would be run
        self.read(text)

    def read(self, text):
        for token in self.parser.parse(text):
            if token.type in ("fence", "colon_fence"):
                self.read_directive(token)
            elif token.type == "inline":
                self.read_inline(token.children)
            elif token.type == "front_matter":
                self.found.append(token.content)
            else:
                self.found.append((token.type, token.markup))

    def read_inline(self, tokens):
        for token in tokens:
            if token.type == "link_open" and token.info == "auto":
                assert token.attrs["href"].startswith(("http://", "https://"))
            elif token.type == "link_open":
                assert_leads_somewhere(self.file, token.attrs["href"])
            made = token.type in ("text", "code_inline") or token.info == "auto"
            if not made:
                self.found.append(token.type)
            assert token.attrs.keys() <= {"href"}

    def read_directive(self, token):
        name, _, argument = token.info.strip().partition(" ")
        name = name.removeprefix("{").removesuffix("}")
        lines = token.content.split("\n")
        options = []
        while lines and lines[0].startswith(":") and not lines[0].startswith(":::"):
            options.append(lines.pop(0).split(" ")[0])
        self.found.append((name, *options))
        if name in self.HOLD:
            self.read_inline(self.parser.parseInline(argument)[0].children)
            self.read("\n".join(lines))
        elif name == "image":
            assert_leads_somewhere(self.file, argument)
            assert not any(lines)
        elif name == "toctree":
            self.found.append(len(lines))
        elif name == "code-block":
            assert lines[0] == ""  # which ends the options
            self.found.append(argument)
        else:
            assert token.info == "{raw} html"
            assert token.content in SMALL_TITLES


HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an image that fails": "<img src=x onerror=alert(1)>",
    "a comment": "<!-- a --> b <!--",
    "links": "[a](javascript:alert(1)) <javascript:x> ![b](x) [c]: d [^e]",
    "roles": "{py:class}`x` {raw}`y` `z`{.a onclick=x}",
    "one backtick": "a ` b",
    "two backticks": "``a ` b`` {raw}``<b>``",
    "three backticks": "```{raw} html\n<script>\n```",
    "a fence of Python, which would be run": "a\n```python\nimport os\n```\nb",
    "fences within fences": "a\n`````\n:::::\n~~~\n```{eval-rst}\nb\n```\n",
    "options of a directive": ":class: a\n:name: b\n\nc",
    "options as YAML": "---\nclass: a\n---\nb",
    "cells of a table": "a | b | `c|d` \\| https://a.org/|",
    "mathematics": "$a$ and $$b$$",
    "lists": "- a\n1. b\n: c\n> d\n# e",
    "breaks": "---\n+++\n% a\n(b)=\n***",
    "ends of lines": "a\r\n\x0c\u2028\x85b\n\n    c",
    "what is no character": "\0 \x1b \ud800 \udc80",
}


@functools.cache
def plain(form):
    return elements(form, "a", "a")


@pytest.mark.parametrize("form", ["html", "markdown"])
@pytest.mark.parametrize("case", HOSTILE)
def test_such_a_text_or_name_adds_no_element(form, case):
    text = HOSTILE[case]
    assert elements(form, text, as_name(text)) == plain(form)


@pytest.mark.parametrize("form", ["html", "markdown"])
@given(text=TEXT, name=TEXT.map(as_name))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_no_text_or_name_adds_an_element(form, text, name):
    assert elements(form, text, name) == plain(form)


@pytest.mark.parametrize(
    "name",
    [
        *("index", "claims", "index.html", "claims.html", "index.md", "a.md", "thumbnail"),
        *("x" * 200, "größe", "#", "%41"),
    ],
)
def test_every_name_has_a_page_of_its_own(name):
    for form in ("html", "markdown"):
        assert elements(form, "a", name) == plain(form)


def png(size=(4, 4), pixels=None, between=b""):
    """Return a PNG of grey pixels whose pieces all have the right sums."""

    def piece(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    rows = bytes(size[1] * (1 + size[0]))
    drawn = b"" if pixels == b"" else piece(b"IDAT", pixels or zlib.compress(rows))
    head = piece(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + between + drawn + piece(b"IEND", b"")


PNGS = {
    "what can be drawn": (png(), True),
    "a line": (png((5000, 1)), True),
    "a column": (png((1, 5000)), True),
    "no pixels": (png(pixels=b""), False),
    "pixels that are none": (png(pixels=b"none"), False),
    "too few pixels": (png(pixels=zlib.compress(b"\0")), False),
    "a filter that is none": (png(pixels=zlib.compress(b"\x09" * 20)), False),
    "no size": (png((0, 0)), False),
    "a size beyond memory": (png((60000, 60000)), False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize("form", ["html", "markdown"])
@pytest.mark.parametrize("case", PNGS)
def test_a_figure_is_shown_or_said_to_be_cut_short(tmp_path, case, form):
    data, is_whole = PNGS[case]
    folder = tmp_path / "results" / "a"
    folder.mkdir(parents=True)
    (folder / "line.png").write_bytes(data)
    (folder / "result.json").write_text(json.dumps({"claims": [], "figures": ["line"]}), "utf-8")
    page = write(tmp_path / "results", form)["a"]
    assert ("missing or cut short" in page) is not is_whole


@pytest.mark.parametrize("name", ["thumbnail", "thumbnail.dark", "thumbnail_", "index", "result"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_no_figure_is_written_over(tmp_path, name, elsewhere):
    results = tmp_path / "results"
    folder = results / "a"
    folder.mkdir(parents=True)
    figures = ["first", "thumbnail", name]
    for k, figure in enumerate(figures):
        (folder / f"{figure}.png").write_bytes(png((500, 10 + k)))
    (folder / "result.json").write_text(json.dumps({"claims": [], "figures": figures}), "utf-8")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    to = tmp_path / "to" if elsewhere else results
    for _ in range(2):
        write(results, "html", to)
        assert {one: (to / "a" / one).read_bytes() for one in before} == before
    (card,) = re.findall(r'<img src="(a/[^"]+)"', (to / "index.html").read_text("utf-8"))
    assert (to / card).exists()
    assert Path(card).name not in before


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_a_folder_in_place_of_a_page_is_said(tmp_path, form, capsys):
    page = tmp_path / {"html": "index.html", "markdown": "claims.md"}[form]
    page.mkdir()
    assert main(["gallery", "--results", str(tmp_path), "--format", form]) == 2
    assert f"{page} is a folder, where a file has to be; rename it" in capsys.readouterr().err


def test_no_link_opens_a_drawing_whose_scripts_would_run(tmp_path):
    results, _ = make(tmp_path, "a", "a")
    for file in write(results, "html"):
        page = (tmp_path / "as_html" / file).with_suffix(".html")
        for path in (page, tmp_path / "as_html" / file / "index.html"):
            if path.is_file():
                links = re.findall(r'href="([^"]+)"', path.read_text("utf-8"))
                assert not [link for link in links if unquote(link).endswith(".svg")]
    assert '<img src="a.svg"' in (tmp_path / "as_html" / "a" / "index.html").read_text("utf-8")
