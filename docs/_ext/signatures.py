"""A signature of several lines: Sphinx makes a list without terms of it, which is not valid."""

import re

LINES = re.compile(r'<dl>\n(<dd><em class="sig-param">.*?)</dl>', re.DOTALL)


def valid(html: str) -> str:
    """Make plain lines of the parameters."""
    return LINES.sub(lambda found: _lines(found[1]), html)


def _lines(html: str) -> str:
    html = html.replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">\n{html}</span>'


def _mend(_app, _page, _template, context, _doctree):
    if "body" in context:
        context["body"] = valid(context["body"])


def setup(app):
    """Register the hook."""
    app.connect("html-page-context", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
