"""What is mended in the pages on their way out."""

from docs._ext.mending import without_indents


def test_lines_begin_at_their_margin_but_for_code():
    code = "<pre>def f():\n    return 1\n</pre>"
    script = "<script>\n  if (a) {\n    b()\n  }</script>"
    page = f"<div>\n    <p>some\n\n   words</p>\n  {code}\n  {script}\n   <pre>\n  x</pre></div>\n"
    assert without_indents(page) == (
        f"<div>\n<p>some\nwords</p>\n{code}\n{script}\n<pre>\n  x</pre></div>\n"
    )


def test_a_second_pass_changes_nothing():
    page = without_indents("<p>\n  a\n   <pre>\n   b</pre>\n   c</p>")
    assert without_indents(page) == page
