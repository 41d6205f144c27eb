"""What Sphinx and its extensions write that is not valid or not needed, mended on the way out."""

import re
from pathlib import Path

# a signature of several lines: a list without terms
LINES = re.compile(r'<dl>\n(<dd><em class="sig-param">.*?)</dl>', re.DOTALL)
# a name that is not what is seen
NAMED = re.compile(r'<summary aria-label="[^"]*">')
PRE = re.compile(r'<span class="pre">([^<]*)</span>')
# what keeps its blanks
AS_IS = re.compile(r"(<(pre|script|style|textarea)\b.*?</\2>)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
# names, punctuation and blanks in code, which have the colour of the text
PLAIN = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')


def valid(html: str) -> str:
    """Make plain lines of parameters; call what folds text by its own words; drop empty marks."""
    html = LINES.sub(lambda found: _lines(found[1]), html)
    return PRE.sub(r"\1", NAMED.sub("<summary>", html))


def shorter(html: str) -> str:
    """Leave out a fifth that nobody sees: indents, comments, marks in code without a colour."""
    pieces = AS_IS.split(html)  # text, what is as it is, its tag, text, ...
    pieces[::3] = [re.sub(r"\n\s+", "\n", COMMENT.sub("", piece)) for piece in pieces[::3]]
    pieces[1::3] = [PLAIN.sub(r"\1", piece) for piece in pieces[1::3]]
    return "".join(piece for i, piece in enumerate(pieces) if i % 3 != 2)


def _lines(html: str) -> str:
    html = html.replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">\n{html}</span>'


def _mend(_app, _page, _template, context, _doctree):
    if "body" in context:
        context["body"] = valid(context["body"])


def _drop_what_nobody_reads(app, error):
    # maps for who debugs the theme, and a template of it that was copied along
    static = Path(app.outdir, "_static")
    if error is None:
        for path in [*static.rglob("*.map"), *static.glob("webpack-macros.html")]:
            path.unlink()
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text("utf-8")
            if (less := shorter(text)) != text:
                page.write_text(less, "utf-8")


def setup(app):
    """Register the hooks."""
    app.connect("html-page-context", _mend)
    app.connect("build-finished", _drop_what_nobody_reads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
